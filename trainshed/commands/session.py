"""What every command works with: the client, the output, the words they share.

Modules that draw or speak HTTP are imported by the commands that need them, so that `trainshed --help` and
shell completion stay quick.
"""

import json
import sys
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainshed.commands.meta import hint_for_request
from trainshed.errors import (
    DataRejected,
    KeyUnknown,
    NotWritten,
    PredictionFailed,
    ProblemError,
    ServerFailed,
    ServerUnknown,
    StackError,
    TrainshedError,
    Unreachable,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from trainshed.client import Client
    from trainshed.job import Job

SUCCEEDED, FAILED, USAGE, CANCELLED, NO_SERVER = 0, 1, 2, 3, 4
OUTCOMES = {"succeeded": SUCCEEDED, "failed": FAILED, "cancelled": CANCELLED}


class Format(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"


class SplitName(StrEnum):
    """A part of a dataset."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


Output = Annotated[Format | None, typer.Option("--output", "-o", help="How to print the answer.")]
JobArgument = Annotated[
    str,
    typer.Argument(metavar="JOB", help="An id, four or more digits that it begins or ends with, or `last`."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change the spec, as in --set fit.epochs=5; repeatable."
    ),
]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Show the job until it has ended.")]
ReasonOption = Annotated[
    str | None, typer.Option(help="Why; the test split asks for it, and the ledger keeps it.")
]


class Session:
    """What one invocation works with."""

    def __init__(self, output: Format, url: str | None) -> None:
        self.output = output
        self._url = url

    @cached_property
    def client(self) -> "Client":
        """The server."""
        from trainshed.client import Client

        return Client(self._url)

    @cached_property
    def console(self) -> "Console":
        """Standard output."""
        from trainshed.tables import console_for

        return console_for()

    @property
    def is_json(self) -> bool:
        """Whether a program reads the output."""
        return self.output is Format.JSON

    def print_json(self, data: object) -> None:
        """One line of JSON."""
        typer.echo(json.dumps(data, ensure_ascii=False))

    def print(self, what: "RenderableType") -> None:
        """Something for people."""
        self.console.print(what)

    def hint(self, *commands: str) -> None:
        """Names what a person may want next; nobody else sees it."""
        if not self.is_json and sys.stderr.isatty() and sys.stdout.isatty():
            typer.secho(f"next: {'   '.join(commands)}", dim=True, err=True)

    def say_written(self, path: Path) -> None:
        """Tells which file was written."""
        self.print_json({"path": str(path)}) if self.is_json else typer.echo(f"Wrote {path}.")


def session_of(context: typer.Context, output: Format | None) -> Session:
    """The invocation's session, its output as asked for behind the command's name."""
    session: Session = context.obj
    session.output = output or session.output
    return session


def report(error: TrainshedError, is_json: bool) -> None:
    """An error on standard error: a sentence, or with -o json the server's own document."""
    typer.echo(json.dumps(_document(error), ensure_ascii=False) if is_json else str(error), err=True)
    if isinstance(error, ProblemError) and not is_json and (hint := hint_for_request(error.problems)):
        typer.echo(hint, err=True)


def exit_code(error: TrainshedError) -> int:
    """What a program learns of an error."""
    if isinstance(error, (Unreachable, ServerUnknown, KeyUnknown, ServerFailed)):
        return NO_SERVER
    return FAILED if isinstance(error, (StackError, DataRejected, PredictionFailed)) else USAGE


def short(job: "Job") -> str:
    """An id as people type it."""
    return job.id[-8:]


def overrides(changes: list[str] | None) -> dict[str, Any]:
    """Values by path of `--set PATH=VALUE`, each read as JSON where it is JSON."""
    return {path: _value(text) for path, text in (_change(change) for change in changes or [])}


def check_out(out: Path, *suffixes: str) -> None:
    """Refuses a file's name before anything is asked for."""
    if out.is_dir():
        raise NotWritten(out, "it is a folder")
    if out.suffix not in suffixes:
        raise typer.BadParameter(f"the name must end in {' or '.join(suffixes)}", param_hint="--out")


def _document(error: TrainshedError) -> object:
    match error:
        case ProblemError():
            return error.problem
        case DataRejected() | PredictionFailed():
            return error.answer
        case _:
            return {"detail": str(error)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _change(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not (path and equals):
        raise typer.BadParameter(f"{text!r} is not of the form PATH=VALUE", param_hint="--set")
    return path, value

"""Commands about datasets."""

import importlib
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainshed.commands.meta import hint_for_data
from trainshed.commands.session import FAILED, Output, Session, overrides, session_of
from trainshed.errors import DataRejected, FileUnreadable, NoSuchFile

if TYPE_CHECKING:
    from trainshed.answers import Upload

NEEDED = ("name", "task")


def listed(context: typer.Context, output: Output = None) -> None:
    """List datasets; add, show and look into one."""
    session = session_of(context, output)
    if context.invoked_subcommand is not None:
        return
    found = session.client.datasets.list()
    if session.is_json:
        session.print_json(found)
        return
    from trainshed import tables

    session.print(tables.datasets(found))
    session.hint(
        "trainshed datasets show NAME", "trainshed datasets add FILE --name NAME --task TASK --target COLUMN"
    )


def show(context: typer.Context, name: str, output: Output = None) -> None:
    """Show one dataset with its schema."""
    session = session_of(context, output)
    found = session.client.datasets.get(name)
    if session.is_json:
        session.print_json(found)
        return
    from trainshed import tables

    session.print(tables.dataset(found))
    if (columns := tables.columns(found)) is not None:
        session.print(columns)


def ledger(context: typer.Context, name: str, output: Output = None) -> None:
    """List the looks at a dataset's test split."""
    session = session_of(context, output)
    looks = session.client.datasets.ledger(name)
    if session.is_json:
        session.print_json(looks)
        return
    from trainshed import tables

    session.print(tables.ledger(looks))


def versions(context: typer.Context, name: str, output: Output = None) -> None:
    """List a dataset's versions, newest first."""
    session = session_of(context, output)
    found = session.client.datasets.versions(name)
    if session.is_json:
        session.print_json(found)
        return
    from trainshed import tables

    session.print(tables.versions(found))


def delete(
    context: typer.Context,
    name: str,
    version: Annotated[
        str | None, typer.Option(help="Only this version, named by eight or more of its first digits.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = None,
) -> None:
    """Delete a dataset that you uploaded.

    Jobs that used it and have ended keep their results.
    """
    session = session_of(context, output)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes: there is nobody to ask", param_hint="--yes")
        what = f"version {version} of dataset {name}" if version else f"dataset {name} with all its versions"
        typer.confirm(f"Delete {what}?", abort=True)
    session.client.datasets.delete(name, version=version)
    deleted = f"{name}@{version}" if version else name
    if session.is_json:
        session.print_json({"deleted": deleted})
    else:
        typer.echo(f"Deleted dataset {deleted}.")


def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, Parquet, NPZ or idx; .gz is unpacked.")],
    name: Annotated[str | None, typer.Option(help="What specs will call it.")] = None,
    task: Annotated[str | None, typer.Option(help="regression, binary, multiclass or multilabel.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="The column to predict; repeatable.")] = None,
    targets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A second file, with the targets (idx).")
    ] = None,
    meta: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is said of the data, in YAML or JSON.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="More of it, as in --set test.last=1000; repeatable."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it can be used.")] = True,
    output: Output = None,
) -> None:
    """Send a file that becomes the newest version of a dataset."""
    session = session_of(context, output)
    flags = {"name": name, "task": task, "target": target or None}
    given = {key: value for key, value in flags.items() if value is not None}
    said = _with_paths(_meta(meta) | given, overrides(changes))
    for key in NEEDED:
        if key not in said:
            raise typer.BadParameter(f"say it here, or in the file of --meta ({key})", param_hint=f"--{key}")
    _print_upload(session, _send(session, file, targets, said, wait=wait))


def _send(
    session: Session, file: Path, targets: Path | None, said: dict[str, Any], *, wait: bool
) -> "Upload":
    datasets = session.client.datasets
    with _busy(session, f"Sending {file.name}"):
        upload = datasets.add(file, targets=targets, wait=False, **said)
    if not wait:
        return upload
    try:
        with _busy(session, f"{upload['filename']} is being read"):
            return datasets.wait(upload)
    except DataRejected as error:
        # Its problems are the answer, and no error of the call.
        return error.answer  # type: ignore[return-value]  # an upload, since one was waited for


def _print_upload(session: Session, upload: "Upload") -> None:
    if session.is_json:
        session.print_json(upload)
    else:
        from trainshed import tables

        session.print(tables.upload(upload))
        if hint := hint_for_data([*upload["problems"], *upload["warnings"]]):
            typer.echo(hint, err=True)
        session.hint(f"trainshed datasets show {upload['dataset']}")
    if upload["state"] == "rejected":
        raise typer.Exit(FAILED)


def _busy(session: Session, what: str) -> AbstractContextManager[object]:
    if session.is_json:
        return nullcontext()
    from trainshed.tables import console_for

    console = console_for(stderr=True)
    return console.status(f"{what} …") if console.is_terminal else nullcontext()


def _meta(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    if not file.is_file():
        raise NoSuchFile(file)
    document = _parsed(file, file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise FileUnreadable(file, "it holds no mapping")
    return document


def _parsed(file: Path, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        if file.suffix == ".json":
            raise FileUnreadable(file, f"it is no JSON ({error})") from error
    try:
        # PyYAML is used where it is; the client has no need of it otherwise.
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise FileUnreadable(file, "YAML needs PyYAML (pip install pyyaml); JSON needs nothing") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileUnreadable(file, f"it is no YAML ({error})") from error


def _with_paths(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = document
        for name in parents:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[last] = value
    return document

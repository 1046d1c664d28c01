"""The command line: a customer of the client.

Modules that draw or speak HTTP are imported by the commands that need them, so that `trainshed --help` and
shell completion stay quick.
"""

import json
import sys
import webbrowser
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from trainshed.errors import (
    KeyUnknown,
    NotWritten,
    ProblemError,
    ServerFailed,
    ServerUnknown,
    StackError,
    TrainshedError,
    Unreachable,
)
from trainshed.settings import find_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from trainshed.client import Client, Spec
    from trainshed.job import Job

SUCCEEDED, FAILED, USAGE, CANCELLED, NO_SERVER = 0, 1, 2, 3, 4
OUTCOMES = {"succeeded": SUCCEEDED, "failed": FAILED, "cancelled": CANCELLED}


class Format(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"


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


class Commands(TyperGroup):
    """The commands; an error of ours becomes a sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except TrainshedError as error:
            is_json = ctx.obj is not None and ctx.obj.is_json
            _report(error, is_json)
            raise typer.Exit(_exit_code(error)) from error


app = typer.Typer(
    cls=Commands,
    help="Train Keras MLPs on a Trainshed server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
)
datasets_app = typer.Typer(help="List datasets; show one; read the ledger of looks at a test split.")
app.add_typer(datasets_app, name="datasets")

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


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"trainshed {version('trainshed')}")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    output: Output = None,
    url: Annotated[
        str | None, typer.Option("--url", help="The server, if not the one that is found.")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Train Keras MLPs on a Trainshed server."""
    context.obj = Session(output or Format.TABLE, url)


@app.command()
def submit(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A spec in YAML or JSON; - reads standard input.")
    ],
    changes: SetOption = None,
    watch_it: Annotated[bool, typer.Option("--watch", "-w", help="Show the job until it has ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the spec; queue nothing.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key again gives the same job again.")
    ] = None,
    output: Output = None,
) -> None:
    """Submit a spec."""
    session = _session(context, output)
    overrides, spec = _overrides(changes or []), _spec(file)
    if dry_run:
        _dry_run(session, spec, overrides)
        return
    job = session.client.submit(spec, overrides=overrides, idempotency_key=idempotency_key)
    if watch_it:
        _follow(session, job)
    if session.is_json:
        session.print_json(job.data)
        return
    typer.echo(f"Job {job.id} is {job.state}.")
    session.hint(f"trainshed watch {_short(job)}", f"trainshed show {_short(job)}")


@app.command()
def ls(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Jobs of this person only.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Jobs on this dataset only.")] = None,
    label: Annotated[str | None, typer.Option(metavar="KEY:VALUE", help="Jobs with this label only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    output: Output = None,
) -> None:
    """List jobs, newest first."""
    session = _session(context, output)
    found = session.client.jobs(state=state, owner=owner, dataset=dataset, label=label, limit=limit)
    listed = [job.data for job in found]
    if session.is_json:
        session.print_json(listed)
        return
    from trainshed import tables

    session.print(tables.jobs(listed, width=session.console.width))
    session.hint("trainshed show JOB", "trainshed watch JOB")


@app.command()
def show(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """Show a job."""
    session = _session(context, output)
    found = session.client.find(job)
    if session.is_json:
        session.print_json(found.data)
        return
    from trainshed import tables

    session.print(tables.job(found.data, found.evaluations() if found.has_ended else []))
    session.hint(f"trainshed history {_short(found)}", f"trainshed plot {_short(found)}")


@app.command()
def watch(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """Show a job until it has ended; the exit code is its outcome (0 succeeded, 1 failed, 3 cancelled)."""
    session = _session(context, output)
    _follow(session, session.client.find(job))


@app.command()
def history(
    context: typer.Context,
    job: JobArgument = "last",
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    output: Output = None,
) -> None:
    """Print a job's history, one row an epoch."""
    session = _session(context, output)
    found = session.client.find(job)
    if csv:
        typer.echo(found.history_csv(), nl=False)
        return
    answer = found.history()
    if session.is_json:
        session.print_json(answer)
        return
    from trainshed import tables

    session.print(tables.history(answer))
    session.hint(f"trainshed plot {_short(found)}", f"trainshed history {_short(found)} --csv")


@app.command()
def plot(
    context: typer.Context,
    job: JobArgument = "last",
    out: Annotated[Path, typer.Option(help="A name that ends in .png or .svg.")] = Path(
        "learning-curves.png"
    ),
    output: Output = None,
) -> None:
    """Write a job's learning curves as a picture."""
    session = _session(context, output)
    _check_out(out, ".png", ".svg")
    found = session.client.find(job)
    _say_written(session, found.learning_curves(out))
    session.hint(f"trainshed evaluate {_short(found)}", f"trainshed open {_short(found)}")


@app.command()
def evaluate(
    context: typer.Context,
    job: JobArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    reason: Annotated[
        str | None, typer.Option(help="Why; the test split asks for it, and the ledger keeps it.")
    ] = None,
    output: Output = None,
) -> None:
    """Evaluate a finished job's model on a split, and wait for the metrics."""
    if split not in ("train", "validation", "test"):
        raise typer.BadParameter("must be train, validation or test", param_hint="--split")
    session = _session(context, output)
    found = session.client.find(job)
    result = found.evaluate(split, reason=reason)  # type: ignore[arg-type]  # narrowed just above
    if session.is_json:
        session.print_json(result)
    else:
        from trainshed import tables

        session.print(tables.evaluation(result))
        session.hint(f"trainshed model {_short(found)} --out model.keras", "trainshed datasets ledger NAME")
    raise typer.Exit(SUCCEEDED if result["state"] == "succeeded" else FAILED)


@app.command()
def evaluations(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """List a job's evaluations, oldest first."""
    session = _session(context, output)
    found = session.client.find(job)
    listed = found.evaluations()
    if session.is_json:
        session.print_json(listed)
        return
    from trainshed import tables

    session.print(tables.evaluations(listed))
    session.hint(f"trainshed evaluate {_short(found)} --split validation")


@app.command()
def cancel(context: typer.Context, job: JobArgument, output: Output = None) -> None:
    """Cancel a job."""
    session = _session(context, output)
    found = session.client.find(job).cancel()
    if session.is_json:
        session.print_json(found.data)
        return
    is_asked = found.data["cancel_requested"] and not found.has_ended
    typer.echo(f"Job {found.id} {'is being cancelled' if is_asked else f'is {found.state}'}.")
    session.hint(f"trainshed watch {_short(found)}", "trainshed ls")


@app.command()
def delete(
    context: typer.Context,
    job: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = None,
) -> None:
    """Delete a job that has ended, with its history, model and logs."""
    session = _session(context, output)
    found = session.client.find(job)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes: there is nobody to ask", param_hint="--yes")
        typer.confirm(f"Delete job {found.id} ({found.name}) and everything it made?", abort=True)
    found.delete()
    session.print_json({"deleted": found.id}) if session.is_json else typer.echo(f"Deleted job {found.id}.")


@app.command()
def model(
    context: typer.Context,
    job: JobArgument = "last",
    out: Annotated[Path, typer.Option(help="A name that ends in .keras.")] = Path("model.keras"),
    output: Output = None,
) -> None:
    """Download a job's model: a .keras file that plain Keras loads."""
    session = _session(context, output)
    _check_out(out, ".keras")
    found = session.client.find(job)
    _say_written(session, found.download_model(out))
    session.hint(f'python -c "import keras; keras.models.load_model({str(out)!r}).summary()"')


@app.command()
def logs(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """Print what the trainer wrote."""
    session = _session(context, output)
    text = session.client.find(job).logs()
    if session.is_json:
        session.print_json({"text": text})
    elif text.strip():
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        typer.secho("The trainer wrote nothing.", dim=True, err=True)


@app.command()
def queue(context: typer.Context, output: Output = None) -> None:
    """Show who runs, who waits, and for what."""
    session = _session(context, output)
    answer = session.client.queue()
    if session.is_json:
        session.print_json(answer)
        return
    from trainshed import tables

    session.print(tables.queue(answer))
    session.hint("trainshed watch JOB", "trainshed cancel JOB")


@app.command("open")
def open_mlflow(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """Open a job's MLflow run in the browser, and print its address."""
    session = _session(context, output)
    link = session.client.find(job).data["mlflow"]
    if session.is_json:
        session.print_json(link)
        return
    if link["url"] is None:
        typer.echo("The job has no MLflow run yet; it gets one soon after its training begins.", err=True)
        raise typer.Exit(FAILED)
    typer.echo(link["url"])
    if sys.stdout.isatty():
        webbrowser.open(link["url"])


@datasets_app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, output: Output = None) -> None:
    """List datasets; show one; read the ledger of looks at a test split."""
    session = _session(context, output)
    if context.invoked_subcommand is not None:
        return
    listed = session.client.datasets()
    if session.is_json:
        session.print_json(listed)
        return
    from trainshed import tables

    session.print(tables.datasets(listed))
    session.hint("trainshed datasets show NAME", "trainshed datasets ledger NAME")


@datasets_app.command("show")
def show_dataset(context: typer.Context, name: str, output: Output = None) -> None:
    """Show one dataset with its schema."""
    session = _session(context, output)
    found = session.client.dataset(name)
    if session.is_json:
        session.print_json(found)
        return
    from trainshed import tables

    session.print(tables.dataset(found))
    if found["schema"]:
        session.console.print_json(json.dumps(found["schema"]))


@datasets_app.command("ledger")
def show_ledger(context: typer.Context, name: str, output: Output = None) -> None:
    """List the looks at a dataset's test split."""
    session = _session(context, output)
    looks = session.client.ledger(name)
    if session.is_json:
        session.print_json(looks)
        return
    from trainshed import tables

    session.print(tables.ledger(looks))


@app.command()
def up(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="The folder of all state.", show_default=False)] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The API's port.")] = 8080,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="MLflow's port.")] = 5000,
    slots: Annotated[int | None, typer.Option(min=1, max=64, help="Jobs that may run at once.")] = None,
    checkout: Annotated[Path | None, typer.Option(help="The server's code, if it is not found.")] = None,
    while_stdin_open: Annotated[bool, typer.Option(hidden=True)] = False,
    output: Output = None,
) -> None:
    """Start the whole service on this machine; Ctrl-C stops it. Needs the server's checkout."""
    from trainshed.roster import Options
    from trainshed.stack import up as run

    if port == mlflow_port:
        raise typer.BadParameter(
            f"the API has port {port}; MLflow needs another one", param_hint="--mlflow-port"
        )
    session = _session(context, output)
    options = Options(home or find_home(), host, port, mlflow_port, slots, checkout, while_stdin_open)
    run(options, colours=session.console.is_terminal and not session.console.no_color)


@app.command()
def demo(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The folder of all state; by default .demo in the checkout.")
    ] = None,
    checkout: Annotated[Path | None, typer.Option(help="The server's code, if it is not found.")] = None,
    output: Output = None,
) -> None:
    """Start the service, train the Fashion-MNIST example, show everything about it, stop."""
    from trainshed.demo import run

    session = _session(context, output)
    raise typer.Exit(run(session.console, home=home, checkout=checkout))


def main() -> None:
    """The entry point of the command `trainshed`."""
    app(prog_name="trainshed")


def _session(context: typer.Context, output: Format | None) -> Session:
    session: Session = context.obj
    session.output = output or session.output
    return session


def _follow(session: Session, job: "Job") -> None:
    away = _away_notice(session, job)
    try:
        if session.is_json:
            for snapshot in job.watch(on_away=away):
                session.print_json(snapshot)
        else:
            _show_live(session, job, away)
    except KeyboardInterrupt:
        typer.echo(f"The job goes on without us: trainshed watch {_short(job)}", err=True)
        raise
    raise typer.Exit(OUTCOMES[job.state])


def _away_notice(session: Session, job: "Job") -> "Callable[[], None]":
    again = f"To watch it again later: trainshed watch {_short(job)}"
    unsaid = [f"{session.client.url} does not answer; waiting for it. The job goes on. {again}"]

    def say() -> None:
        # Once, however often the server goes away.
        while unsaid:
            sentence = unsaid.pop()
            typer.echo(json.dumps({"detail": sentence}) if session.is_json else sentence, err=True)

    return say


def _show_live(session: Session, job: "Job", away: "Callable[[], None]") -> None:
    from trainshed.follow import follow

    follow(job.watch(on_away=away), session.console)
    reason = "" if job.reason is None else f" ({job.reason})"
    typer.echo(f"Job {job.id} {job.state}{reason}. {job.data['detail'] or ''}".rstrip())
    session.hint(f"trainshed history {_short(job)}", f"trainshed plot {_short(job)}")


def _dry_run(session: Session, spec: "Spec", overrides: dict[str, Any]) -> None:
    answer = session.client.dry_run(spec, overrides=overrides)
    if session.is_json:
        session.print_json(answer)
        return
    from trainshed import tables

    session.print(tables.dry_run(answer))


def _spec(file: str) -> "Spec":
    if file == "-":
        return sys.stdin.read()
    path = Path(file)
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {file}", param_hint="FILE")
    return path


def _overrides(changes: list[str]) -> dict[str, Any]:
    return {path: _value(text) for path, text in (_change(change) for change in changes)}


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


def _check_out(out: Path, *suffixes: str) -> None:
    if out.is_dir():
        raise NotWritten(out, "it is a folder")
    if out.suffix not in suffixes:
        raise typer.BadParameter(f"the name must end in {' or '.join(suffixes)}", param_hint="--out")


def _say_written(session: Session, path: Path) -> None:
    session.print_json({"path": str(path)}) if session.is_json else typer.echo(f"Wrote {path}.")


def _short(job: "Job") -> str:
    return job.id[-8:]


def _report(error: TrainshedError, is_json: bool) -> None:
    if is_json:
        document = error.document if isinstance(error, ProblemError) else {"detail": str(error)}
        typer.echo(json.dumps(document, ensure_ascii=False), err=True)
    else:
        typer.echo(str(error), err=True)


def _exit_code(error: TrainshedError) -> int:
    if isinstance(error, (Unreachable, ServerUnknown, KeyUnknown, ServerFailed)):
        return NO_SERVER
    return FAILED if isinstance(error, StackError) else USAGE

"""The command line: a customer of the client."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trainshed.commands import datasets, descent, jobs, predicting, results, service
from trainshed.commands.session import Format, Output, Session, exit_code, report
from trainshed.errors import TrainshedError


class Commands(TyperGroup):
    """The commands; an error of ours becomes a sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except TrainshedError as error:
            report(error, is_json=ctx.obj is not None and ctx.obj.is_json)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=Commands,
    help="Train Keras MLPs on a Trainshed server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
)
datasets_app = typer.Typer(help="List datasets; add, show, look into and delete one.")


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


# In the order in which the help lists them.
for command in (
    *(jobs.submit, jobs.ls, jobs.show, jobs.watch),
    *(results.history, results.plot, results.evaluate, results.evaluations),
    *(predicting.predict, results.model, jobs.logs, results.open_),
    *(descent.continue_, descent.retry, descent.clone, descent.update),
    *(jobs.cancel, jobs.delete, service.queue),
):
    app.command(command.__name__.rstrip("_"))(command)
app.add_typer(datasets_app, name="datasets")
app.command()(service.up)
app.command()(service.demo)

datasets_app.callback(invoke_without_command=True)(datasets.listed)
for about in (datasets.add, datasets.show, datasets.versions, datasets.ledger, datasets.delete):
    datasets_app.command()(about)


def main() -> None:
    """The entry point of the command `trainshed`."""
    app(prog_name="trainshed")

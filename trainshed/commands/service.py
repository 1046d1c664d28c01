"""Commands about the service itself."""

from pathlib import Path
from typing import Annotated

import typer

from trainshed.commands.session import Output, session_of
from trainshed.settings import find_home


def queue(context: typer.Context, output: Output = None) -> None:
    """Show who runs, who waits, and for what."""
    session = session_of(context, output)
    answer = session.client.queue()
    if session.is_json:
        session.print_json(answer)
        return
    from trainshed import tables

    session.print(tables.queue(answer))
    session.hint("trainshed watch JOB", "trainshed cancel JOB")


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
    """Start the whole service on this machine.

    Ctrl-C stops it. Needs the server's checkout.
    """
    from trainshed.roster import Options
    from trainshed.stack import up as run

    if port == mlflow_port:
        raise typer.BadParameter(
            f"the API has port {port}; MLflow needs another one", param_hint="--mlflow-port"
        )
    session = session_of(context, output)
    options = Options(home or find_home(), host, port, mlflow_port, slots, checkout, while_stdin_open)
    run(options, colours=session.console.is_terminal and not session.console.no_color)


def demo(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="The folder of all state; by default .demo in the checkout.")
    ] = None,
    checkout: Annotated[Path | None, typer.Option(help="The server's code, if it is not found.")] = None,
    output: Output = None,
) -> None:
    """Train the Fashion-MNIST example on a service of its own.

    Starts the service, shows everything about the job, and stops.
    """
    from trainshed.demo import run

    session = session_of(context, output)
    raise typer.Exit(run(session.console, home=home, checkout=checkout))

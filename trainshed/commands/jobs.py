"""Commands that make jobs and look at them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainshed.commands.following import follow_to_end, print_submitted
from trainshed.commands.session import (
    JobArgument,
    Output,
    Session,
    SetOption,
    WatchOption,
    overrides,
    session_of,
    short,
)

if TYPE_CHECKING:
    from trainshed.documents import Spec


def submit(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A spec in YAML or JSON; - reads standard input.")
    ],
    changes: SetOption = None,
    watch_it: WatchOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the spec; queue nothing.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key again gives the same job again.")
    ] = None,
    output: Output = None,
) -> None:
    """Submit a spec."""
    session = session_of(context, output)
    changed, spec = overrides(changes), _spec(file)
    if dry_run:
        _dry_run(session, spec, changed)
        return
    job = session.client.submit(spec, overrides=changed, idempotency_key=idempotency_key)
    print_submitted(session, job, watch_it=watch_it)


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
    session = session_of(context, output)
    found = session.client.jobs(state=state, owner=owner, dataset=dataset, label=label, limit=limit)
    listed = [job.data for job in found]
    if session.is_json:
        session.print_json(listed)
        return
    from trainshed import tables

    session.print(tables.jobs(listed, width=session.console.width))
    session.hint("trainshed show JOB", "trainshed watch JOB")


def show(
    context: typer.Context,
    job: JobArgument = "last",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also where the time went until its first epoch.")
    ] = False,
    output: Output = None,
) -> None:
    """Show a job."""
    session = session_of(context, output)
    found = session.client.find(job)
    if session.is_json:
        session.print_json(found.data)
        return
    from trainshed import tables

    session.print(tables.job(found.data, found.evaluations() if found.has_ended else []))
    if verbose:
        session.print(tables.startup(found.data))
    session.hint(f"trainshed history {short(found)}", f"trainshed plot {short(found)}")


def watch(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """Show a job until it has ended.

    The exit code is its outcome: 0 succeeded, 1 failed, 3 cancelled.
    """
    session = session_of(context, output)
    follow_to_end(session, session.client.find(job))


def cancel(context: typer.Context, job: JobArgument, output: Output = None) -> None:
    """Cancel a job."""
    session = session_of(context, output)
    found = session.client.find(job).cancel()
    if session.is_json:
        session.print_json(found.data)
        return
    is_asked = found.data["cancel_requested"] and not found.has_ended
    typer.echo(f"Job {found.id} {'is being cancelled' if is_asked else f'is {found.state}'}.")
    session.hint(f"trainshed watch {short(found)}", "trainshed ls")


def delete(
    context: typer.Context,
    job: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Delete its MLflow run, too.")] = False,
    output: Output = None,
) -> None:
    """Delete a job that has ended.

    Its history, model and logs go with it.
    """
    session = session_of(context, output)
    found = session.client.find(job)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes: there is nobody to ask", param_hint="--yes")
        typer.confirm(f"Delete job {found.id} ({found.name}) and everything it made?", abort=True)
    found.delete(mlflow=mlflow)
    session.print_json({"deleted": found.id}) if session.is_json else typer.echo(f"Deleted job {found.id}.")


def logs(
    context: typer.Context,
    job: JobArgument = "last",
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt; the newest, if not said.")
    ] = None,
    output: Output = None,
) -> None:
    """Print what the trainer wrote."""
    session = session_of(context, output)
    text = session.client.find(job).logs(attempt=attempt)
    if session.is_json:
        session.print_json({"text": text})
    elif text.strip():
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        typer.secho("The trainer wrote nothing.", dim=True, err=True)


def _dry_run(session: Session, spec: "Spec", changed: dict[str, Any]) -> None:
    answer = session.client.dry_run(spec, overrides=changed)
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

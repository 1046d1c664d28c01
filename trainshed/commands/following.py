"""A job that is shown until it has ended."""

import json
from typing import TYPE_CHECKING

import typer

from trainshed.commands.session import OUTCOMES, Session, short
from trainshed.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainshed.job import Job


def print_submitted(session: Session, job: "Job", *, watch_it: bool) -> None:
    """Tells of a new job, or shows it until it has ended."""
    if watch_it:
        follow_to_end(session, job)
    if session.is_json:
        session.print_json(job.data)
        return
    typer.echo(f"Job {job.id} is {job.state}.")
    session.hint(f"trainshed watch {short(job)}", f"trainshed show {short(job)}")


def follow_to_end(session: Session, job: "Job") -> None:
    """Shows the job; ends the command with its outcome."""
    away = _away_notice(session, job)
    try:
        if session.is_json:
            for snapshot in job.watch(on_away=away):
                session.print_json(snapshot)
        else:
            _show_live(session, job, away)
    except NotFound:
        # It was there when it was asked for first.
        if session.is_json:
            session.print_json({"deleted": job.id})
        typer.echo(f"Job {job.id} was deleted while it was watched.", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"The job goes on without us: trainshed watch {short(job)}", err=True)
        raise
    raise typer.Exit(OUTCOMES[job.state])


def _away_notice(session: Session, job: "Job") -> "Callable[[], None]":
    again = f"To watch it again later: trainshed watch {short(job)}"
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
    session.hint(f"trainshed history {short(job)}", f"trainshed plot {short(job)}")

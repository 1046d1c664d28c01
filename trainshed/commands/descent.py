"""Commands that make a job from another one, and the one that changes a job."""

from enum import StrEnum
from typing import Annotated

import typer

from trainshed.commands.following import print_submitted
from trainshed.commands.session import (
    JobArgument,
    Output,
    SetOption,
    WatchOption,
    overrides,
    session_of,
    short,
)


class EarlyStopping(StrEnum):
    """What becomes of early stopping in a job that goes on."""

    RESET = "reset"
    REMOVE = "remove"


def continue_(
    context: typer.Context,
    job: JobArgument,
    epochs: Annotated[int, typer.Option(min=1, help="How many more.")],
    early_stopping: Annotated[
        EarlyStopping | None, typer.Option(help="For a job that early stopping ended: what becomes of it.")
    ] = None,
    watch_it: WatchOption = False,
    output: Output = None,
) -> None:
    """Train a job's model further, in a new job."""
    session = session_of(context, output)
    parent = session.client.find(job)
    how = None if early_stopping is None else early_stopping.value
    print_submitted(session, parent.continue_(epochs, early_stopping=how), watch_it=watch_it)  # type: ignore[arg-type]  # an enum's value


def retry(
    context: typer.Context, job: JobArgument, watch_it: WatchOption = False, output: Output = None
) -> None:
    """Try a job again that failed or was cancelled, in a new job."""
    session = session_of(context, output)
    print_submitted(session, session.client.find(job).retry(), watch_it=watch_it)


def clone(
    context: typer.Context,
    job: JobArgument,
    changes: SetOption = None,
    watch_it: WatchOption = False,
    output: Output = None,
) -> None:
    """Submit a job's spec again, with changes."""
    session = session_of(context, output)
    print_submitted(session, session.client.find(job).clone(overrides(changes)), watch_it=watch_it)


def update(
    context: typer.Context,
    job: JobArgument,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY:VALUE", help="Set a label; KEY: alone takes it away; repeatable."),
    ] = None,
    note: Annotated[str | None, typer.Option(help="A note; an empty one takes it away.")] = None,
    priority: Annotated[
        int | None, typer.Option(help="-100 to 100: which of your own queued jobs starts first.")
    ] = None,
    output: Output = None,
) -> None:
    """Change a job's labels, note or priority."""
    session = session_of(context, output)
    found = session.client.find(job).update(
        labels=_labels(label) if label else None,
        note=... if note is None else (note or None),
        priority=priority,
    )
    if session.is_json:
        session.print_json(found.data)
        return
    typer.echo(f"Changed job {found.id}.")
    session.hint(f"trainshed show {short(found)}")


def _labels(given: list[str]) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    for text in given:
        key, colon, value = text.partition(":")
        if not (key and colon):
            raise typer.BadParameter(f"{text!r} is not of the form KEY:VALUE", param_hint="--label")
        labels[key] = value or None
    return labels

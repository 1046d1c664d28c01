"""What streams read: a job's events and epochs from a cursor on, and which jobs changed since."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, literal, select, union_all
from sqlalchemy.orm import Session, defer

from services import answers
from services.errors import NotFound
from services.models import Deletion, Epoch, Event, Job, Owner
from services.results import ETA_EPOCHS, moment
from services.states import JobState, Reason
from services.store import now_ms

# Rows of each kind that one read takes.
PAGE_ROWS = 500
# In the place of a revision.
DELETED = -1
STANDING = (
    Job.revision,
    Job.state,
    Job.reason,
    Job.detail,
    Job.epochs,
    Job.epochs_done,
    Job.epoch_fraction,
)


@dataclass(frozen=True)
class Cursor:
    """How far a reader of one job has come."""

    epochs: int = 0
    """Epochs delivered: the next one is epoch number `epochs`."""
    seq: int = 0
    """The last event delivered."""


@dataclass(frozen=True)
class Item:
    """Something to tell, and where its reader stands afterwards."""

    what: answers.JobEvent | answers.EpochPoint
    cursor: Cursor


@dataclass(frozen=True)
class Page:
    """What happened to a job after a cursor, and how the job stood at that moment."""

    items: list[Item]
    has_more: bool
    cursor: Cursor
    """Where a reader stands who has read all items."""
    revision: int
    progress: answers.ProgressNow | None
    """Only while it runs."""
    done: answers.Done | None
    """Only when it is terminal."""


@dataclass(frozen=True)
class _Rows:
    events: Sequence[Event]
    epochs: Sequence[Epoch]
    has_more_events: bool
    has_more_epochs: bool


def read(session: Session, job_id: str, cursor: Cursor, rows: int = PAGE_ROWS) -> Page:
    """What came after the cursor, in the order in which it happened; raises NotFound.

    An event that winds the training back winds the cursor back: those epochs are told again.
    """
    job = session.execute(_standing(), {"job_id": job_id}).one_or_none()
    if job is None:
        raise NotFound("job", job_id)
    start = _within(cursor, job.last_seq, job.epochs_done)
    found = _rows(session, job_id, start, job.last_seq, rows)
    items, end, is_cut = _in_order(found, start)
    return Page(
        items=items,
        has_more=is_cut,
        cursor=end,
        revision=job.revision,
        progress=_progress(session, job_id, job) if job.state is JobState.RUNNING else None,
        done=_done(job.state, job.reason, job.detail),
    )


# The four statements of a page are built once: with hundreds of streams, building takes longer than running.
@functools.cache
def _standing() -> Select[*tuple[Any, ...]]:
    last_seq = select(func.coalesce(func.max(Event.seq), 0)).where(Event.job_id == bindparam("job_id"))
    # Columns: a stream has no use for the spec.
    return select(*STANDING, last_seq.scalar_subquery().label("last_seq")).where(
        Job.id == bindparam("job_id")
    )


@functools.cache
def _events() -> Select[Event]:
    events = select(Event).where(Event.job_id == bindparam("job_id"), Event.seq > bindparam("seq"))
    return events.order_by(Event.seq).limit(bindparam("rows"))


@functools.cache
def _epochs() -> Select[Epoch]:
    epochs = select(Epoch).where(Epoch.job_id == bindparam("job_id"), Epoch.epoch >= bindparam("first"))
    return epochs.order_by(Epoch.epoch).limit(bindparam("rows"))


@functools.cache
def _recent_seconds() -> Select[float]:
    seconds = select(Epoch.seconds).where(Epoch.job_id == bindparam("job_id"))
    return seconds.order_by(Epoch.epoch.desc()).limit(ETA_EPOCHS)


def _within(cursor: Cursor, last_seq: int, epochs_done: int) -> Cursor:
    if cursor.seq > last_seq:
        # A cursor from nowhere must not hide anything: all is told, again or for the first time.
        return Cursor()
    return replace(cursor, epochs=min(cursor.epochs, epochs_done))


def _rows(session: Session, job_id: str, cursor: Cursor, last_seq: int, rows: int) -> _Rows:
    events: Sequence[Event] = []
    if last_seq > cursor.seq:
        events = session.scalars(_events(), {"job_id": job_id, "seq": cursor.seq, "rows": rows + 1}).all()
    first = min([cursor.epochs, *(epoch for event in events if (epoch := rewind(event)) is not None)])
    epochs = session.scalars(_epochs(), {"job_id": job_id, "first": first, "rows": rows + 1}).all()
    return _Rows(events[:rows], epochs[:rows], len(events) > rows, len(epochs) > rows)


def rewind(event: Event) -> int | None:
    """The epoch from which on all are trained again after this event; None if it winds nothing back."""
    if event.kind == "resumed":
        return int(event.data["epoch"])
    if event.kind == "state" and event.data["state"] == JobState.RUNNING:
        # Records of before it was kept lack it; everything told again is right, too.
        return int(event.data.get("from_epoch", 0))
    return None


def _in_order(found: _Rows, cursor: Cursor) -> tuple[list[Item], Cursor, bool]:
    """Events and epochs merged; the cursor after them; whether a page's end cut them off."""
    items: list[Item] = []
    waiting = list(reversed(found.epochs))

    def tell_epochs_before(event: Event | None) -> None:
        nonlocal cursor
        while waiting and (event is None or _is_before(waiting[-1], event)):
            epoch = waiting.pop()
            # Those below were told before this cursor.
            if epoch.epoch >= cursor.epochs:
                cursor = replace(cursor, epochs=epoch.epoch + 1)
                items.append(Item(_point(epoch), cursor))

    for event in found.events:
        tell_epochs_before(event)
        if items and not waiting and found.has_more_epochs:
            return items, cursor, True
        back = rewind(event)
        cursor = Cursor(cursor.epochs if back is None else min(back, cursor.epochs), event.seq)
        items.append(Item(describe(event), cursor))
    if not found.has_more_events:
        tell_epochs_before(None)
    return items, cursor, found.has_more_events or found.has_more_epochs


def _is_before(epoch: Epoch, event: Event) -> bool:
    """Whether an epoch's row was written before an event.

    The fence decides, since an attempt's first event comes before its epochs and its last one after them; the
    clock decides only within an attempt, where rows that came together were given later times.
    """
    if epoch.fence != event.fence:
        return epoch.fence < event.fence
    return rewind(event) is None and (event.kind == "state" or epoch.ended_at <= event.at)


def describe(event: Event) -> answers.JobEvent:
    """The event as it is answered."""
    return answers.JobEvent(seq=event.seq, kind=event.kind, data=event.data, at=moment(event.at))


def _point(epoch: Epoch) -> answers.EpochPoint:
    return answers.EpochPoint(
        epoch=epoch.epoch, metrics=epoch.metrics, learning_rate=epoch.learning_rate, seconds=epoch.seconds
    )


def _progress(session: Session, job_id: str, job: Any) -> answers.ProgressNow:
    recent = session.scalars(_recent_seconds(), {"job_id": job_id}).all()
    done = job.epochs_done + job.epoch_fraction
    return answers.ProgressNow(
        epoch=job.epochs_done,
        fraction=job.epoch_fraction,
        percent=100 * done / job.epochs,
        eta_seconds=median_low(recent) * (job.epochs - done) if recent else None,
    )


def _done(state: JobState, reason: Reason | None, detail: str | None) -> answers.Done | None:
    return answers.Done(state=state, reason=reason, detail=detail) if state.is_terminal else None


def event_page(session: Session, job_id: str, after: int, limit: int) -> answers.EventPage:
    """Events after a number, oldest first; raises NotFound."""
    if session.scalar(select(Job.id).where(Job.id == job_id)) is None:
        raise NotFound("job", job_id)
    query = select(Event).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq)
    rows = session.scalars(query.limit(limit + 1)).all()
    shown = rows[:limit]
    more = len(rows) > limit
    return answers.EventPage(
        data=[describe(row) for row in shown], has_more=more, next_after=shown[-1].seq if more else None
    )


def revisions(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The number that rises with each visible change, of each job that is there."""
    return {
        id_: number
        for id_, number in session.execute(select(Job.id, Job.revision).where(Job.id.in_(job_ids)))
    }


def clock(session: Session) -> int:
    """The database's time in milliseconds."""
    return session.scalar(select(now_ms())) or 0


class Change(NamedTuple):
    """When a job changed last, and the state of its row that came of it; DELETED where that is gone."""

    at: int
    job_id: str
    revision: int


def changed(session: Session, since: int, after: str = "", rows: int | None = None) -> list[Change]:
    """Jobs that changed at `since` or later, or were deleted, oldest change first.

    Of those that changed at `since` itself only ids above `after`: a page's last one leads to the next.
    """
    there = select(Job.changed_at.label("at"), Job.id.label("job_id"), Job.revision).where(
        Job.changed_at >= since, (Job.changed_at > since) | (Job.id > after)
    )
    gone = select(Deletion.deleted_at, Deletion.job_id, literal(DELETED)).where(
        Deletion.deleted_at >= since, (Deletion.deleted_at > since) | (Deletion.job_id > after)
    )
    query = union_all(there, gone).order_by("at", "job_id").limit(rows)
    return [Change(*row) for row in session.execute(query)]


def deleted(session: Session, job_ids: Sequence[str]) -> list[answers.JobDeleted]:
    """Those of the jobs that are no more, in the order of their deletion."""
    query = select(Deletion).where(Deletion.job_id.in_(job_ids))
    rows = session.scalars(query.order_by(Deletion.deleted_at, Deletion.job_id))
    return [answers.JobDeleted(id=row.job_id, deleted_at=moment(row.deleted_at)) for row in rows]


def summaries(session: Session, job_ids: Sequence[str]) -> list[answers.JobSummary]:
    """Jobs in few words, in the order of their last change."""
    query = (
        select(Job, Owner.name, Epoch.metrics, Epoch.seconds)
        .join(Owner, Owner.id == Job.owner_id)
        .outerjoin(Epoch, (Epoch.job_id == Job.id) & (Epoch.epoch == Job.epochs_done - 1))
        .options(defer(Job.spec))
        .where(Job.id.in_(job_ids))
        .order_by(Job.changed_at, Job.id)
    )
    return [_summary(row, owner, metrics, seconds) for row, owner, metrics, seconds in session.execute(query)]


def _summary(
    row: Job, owner: str, metrics: dict[str, float | None] | None, seconds: float | None
) -> answers.JobSummary:
    done = row.epochs_done + row.epoch_fraction
    eta = seconds * (row.epochs - done) if row.state is JobState.RUNNING and seconds is not None else None
    return answers.JobSummary(
        id=row.id,
        name=row.name,
        state=row.state,
        reason=row.reason,
        owner=owner,
        progress=answers.Progress(
            epoch=row.epochs_done,
            of=row.epochs,
            inherited=row.epochs_inherited,
            percent=100.0 if row.state is JobState.SUCCEEDED else 100 * done / row.epochs,
            eta_seconds=eta,
        ),
        best=None if row.best is None else answers.Best.model_validate(row.best),
        metrics=metrics,
        priority=row.priority,
        labels=row.labels,
        changed_at=moment(row.changed_at),
    )

"""The text of server-sent events, made once for all streams that send it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy.orm import Session

from services import feed
from services.answers import EpochPoint
from services.feed import Cursor, Item

# A browser comes back so soon after the connection broke.
RETRY = "retry: 1000\n\n"
ALIVE = ": alive\n\n"


@dataclass(frozen=True)
class Told:
    """What happened to a job after a cursor, as text."""

    text: str
    cursor: Cursor
    """Where a client stands who has read it."""
    has_more: bool
    revision: int
    progress: str | None
    """Only while the job runs."""
    done: str | None
    """Only when the job is terminal."""


@dataclass(frozen=True)
class Summary:
    """One job of the list as text."""

    job_id: str
    text: str


def tell(session: Session, job_id: str, cursor: Cursor) -> Told:
    """One page of a job's story; raises NotFound."""
    page = feed.read(session, job_id, cursor)
    return Told(
        text="".join(map(_item, page.items)),
        cursor=page.cursor,
        has_more=page.has_more,
        revision=page.revision,
        progress=None if page.progress is None else _block("progress", page.progress),
        done=None if page.done is None else _block("done", page.done, _cursor_id(page.cursor)),
    )


def tell_jobs(session: Session, job_ids: Sequence[str]) -> list[Summary]:
    """Jobs of the list, and those that are no more, in the order of their last change."""
    told: list[tuple[datetime, str, BaseModel, str]] = [
        *((job.changed_at, "job", job, job.id) for job in feed.summaries(session, job_ids)),
        *((job.deleted_at, "deleted", job, job.id) for job in feed.deleted(session, job_ids)),
    ]
    told.sort(key=lambda one: one[0])
    return [Summary(id_, _block(event, job, _time(at))) for at, event, job, id_ in told]


def tell_deleted(session: Session, job_id: str) -> str:
    """The last word about a job that is no more."""
    return "".join(_block("deleted", job) for job in feed.deleted(session, [job_id]))


def mark(id_: int) -> str:
    """An id without an event: from there a client goes on that has seen none."""
    return f"id: {id_}\n\n"


def _item(item: Item) -> str:
    name = "epoch" if isinstance(item.what, EpochPoint) else "state"
    return _block(name, item.what, _cursor_id(item.cursor))


def _cursor_id(cursor: Cursor) -> str:
    return f"{cursor.epochs}-{cursor.seq}"


def _time(moment: datetime) -> str:
    return str(round(moment.timestamp() * 1000))


def _block(event: str, data: BaseModel, id_: str | None = None) -> str:
    line = "" if id_ is None else f"id: {id_}\n"
    return f"event: {event}\n{line}data: {data.model_dump_json()}\n\n"

"""The workers' signs of life, from which readiness is told."""

import socket
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from services.models import Worker
from services.store import now_ms

TRAIN = "train"
HOUSEKEEPING = "housekeeping"
# A worker that gave no sign for so long is not counted as there; its row goes after a day.
SEEN_WITHIN_MS = 30_000
FORGET_AFTER_MS = 86_400_000


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself when it starts."""

    name: str
    kind: str
    slots: int
    device: str


def introduce(session: Session, worker: Introduction) -> None:
    """Add the worker's row, not ready yet; a row of the same name is replaced. Old rows are forgotten."""
    session.execute(delete(Worker).where(Worker.name == worker.name))
    session.execute(delete(Worker).where(Worker.seen_at < now_ms() - FORGET_AFTER_MS))
    session.execute(
        insert(Worker).values(
            name=worker.name,
            kind=worker.kind,
            host=socket.gethostname(),
            slots=worker.slots,
            device=worker.device,
            ready=False,
            started_at=now_ms(),
            seen_at=now_ms(),
        )
    )


def seen(session: Session, name: str, *, ready: bool) -> None:
    """Sign of life."""
    session.execute(update(Worker).where(Worker.name == name).values(seen_at=now_ms(), ready=ready))


def leave(session: Session, name: str) -> None:
    """The worker goes on purpose."""
    session.execute(delete(Worker).where(Worker.name == name))


def can_train(session: Session) -> bool:
    """Whether a train worker is there and warm."""
    return any(worker.ready for worker in present(session) if worker.kind == TRAIN)


def present(session: Session) -> list[Worker]:
    """Workers seen lately, by kind and name."""
    recent = select(Worker).where(Worker.seen_at >= now_ms() - SEEN_WITHIN_MS)
    return list(session.scalars(recent.order_by(Worker.kind, Worker.name)))

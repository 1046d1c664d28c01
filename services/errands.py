"""What a process does for a person who asked, and what evaluations and predictions have in common there.

Claimed under a lease; each write names its fence, and none succeeds with an old one. The caller owns the
transaction.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo
from sqlalchemy import Select, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services import datasets
from services.errors import Conflict, KeyReused, LeaseLost, NotFound
from services.ids import new_id
from services.jobs import Request
from services.models import DatasetVersion, Evaluation, Job, Look, Owner, Prediction
from services.states import EvaluationState, JobState, Split
from services.store import changed_rows, now_ms

# Tries after which an errand whose process keeps dying fails.
MOST_ATTEMPTS = 3
LOOK_WITHOUT_REASON = (
    "The test split is sealed: each look is written down with a reason, and none came. "
    'Send one, such as {"split": "test", "reason": "final figure for the report"}'
)


def _a_look_has_a_reason(reason: str | None, info: ValidationInfo) -> str | None:
    if info.data.get("split") is Split.TEST and not any(mark.isalnum() for mark in reason or ""):
        raise ValueError(LOOK_WITHOUT_REASON)
    return reason


LookReason = Annotated[
    str | None,
    Field(
        max_length=500,
        validate_default=True,
        description="Why you look; needed for the test split, kept in its ledger.",
    ),
    AfterValidator(_a_look_has_a_reason),
]
"""The field `reason` of a request, after its field `split`."""

Errand = TypeVar("Errand", Evaluation, Prediction)
Table = type[Evaluation] | type[Prediction]


@dataclass(frozen=True)
class ErrandLease:
    """The right to write for an evaluation or a prediction."""

    table: Table
    id: str
    fence: int


@dataclass(frozen=True)
class Asked:
    """The answer to a wish."""

    id: str
    is_new: bool
    """False if the idempotency key named an errand that was there already."""


def finished_job(session: Session, job_id: str, what: str, *, is_held: bool = False) -> Job:
    """The job, whose model can be used; while `is_held`, nobody deletes it before the transaction ends.

    Raises NotFound for no such job, Conflict for one without a model.
    """
    lock = {"read": True, "key_share": True} if is_held else None
    job = session.get(Job, job_id, with_for_update=lock)
    if job is None:
        raise NotFound("job", job_id)
    if job.state is not JobState.SUCCEEDED:
        raise Conflict(f"Job {job_id} is {job.state}: only a succeeded job has a model to {what}.")
    return job


def require_split(job: Job, split: Split) -> None:
    """Raise Conflict if the job has no such split."""
    if split is Split.VALIDATION and job.spec["split"]["validation"] is None:
        raise Conflict(f"Job {job.id} has no validation split: its spec says split: {{validation: null}}.")


def repeated(session: Session, table: Table, owner_id: str, request: Request | None) -> Asked | None:
    """What this idempotency key asked for before; raises KeyReused if it came with another request."""
    if request is None:
        return None
    row = session.execute(
        select(table.id, table.request_sha256).where(
            table.owner_id == owner_id, table.idempotency_key == request.key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request_sha256 != request.sha256:
        raise KeyReused(request.key)
    return Asked(row.id, is_new=False)


def ask_once(
    session: Session, table: Table, owner_id: str, request: Request | None, ask: Callable[[], str]
) -> Asked:
    """Let `ask` insert its row. Of parallel requests with one key exactly one does, and all get its row."""
    try:
        with session.begin_nested():
            return Asked(ask(), is_new=True)
    except IntegrityError:
        # Another request with this key committed between the look-up and the insert.
        before = repeated(session, table, owner_id, request)
        if before is None:
            raise
        return before


def insert_row(
    session: Session,
    table: Table,
    job: Job,
    owner_id: str,
    key: Request | None,
    id_: str | None = None,
    **values: Any,
) -> str:
    """A queued errand; a look at the test split is in the ledger with it. Returns the id.

    Raises DataDeleted where it is about a split whose data was deleted.
    """
    id_ = id_ or new_id()
    if values["split"] is not None and job.dataset_version is not None:
        datasets.hold(session, job.dataset_name, job.dataset_version)
    if key is not None:
        values |= {"idempotency_key": key.key, "request_sha256": key.sha256}
    session.execute(
        insert(table).values(
            id=id_,
            job_id=job.id,
            owner_id=owner_id,
            state=EvaluationState.QUEUED,
            fence=0,
            attempts=0,
            created_at=now_ms(),
            **values,
        )
    )
    if values["split"] is Split.TEST:
        look(session, table, id_, values["why"] or "")
    return id_


def look(session: Session, table: Table, id_: str, why: str) -> None:
    """Append a look at the test split to the ledger."""
    errand = session.execute(select(table.job_id, table.owner_id).where(table.id == id_)).one()
    job = session.get_one(Job, errand.job_id)
    # The version's row is locked, so that two looks at once do not count the same looks before them.
    version = select(DatasetVersion.sha256).where(DatasetVersion.sha256 == job.dataset_version)
    # A weaker lock than FOR UPDATE: others who hold the version may look next, and would wait for each other.
    session.execute(version.with_for_update(key_share=True))
    before = session.scalar(
        select(func.count()).select_from(Look).where(Look.dataset_version == job.dataset_version)
    )
    session.execute(
        insert(Look).values(
            id=new_id(),
            dataset_version=job.dataset_version,
            dataset_name=job.dataset_name,
            job_id=job.id,
            subject_id=id_,
            subject="evaluation" if table is Evaluation else "prediction",
            owner_name=session.get_one(Owner, errand.owner_id).name,
            why=why,
            looks_before=before,
            looked_at=now_ms(),
        )
    )


# Building a statement takes longer than running it, and a person waits.
@functools.cache
def _claimable(table: type[Errand]) -> Select[Errand]:
    is_waiting = table.state == EvaluationState.QUEUED
    was_lost = (table.state == EvaluationState.RUNNING) & (table.lease_until < now_ms())
    claimable = select(table).where(or_(is_waiting, was_lost), table.attempts < MOST_ATTEMPTS)
    return claimable.order_by(table.id).limit(1)


@functools.cache
def _next(table: type[Errand]) -> Select[Errand]:
    return _claimable(table).with_for_update(skip_locked=True)


@functools.cache
def _next_id(table: Table) -> Select[str]:
    return _claimable(table).with_only_columns(table.id)


def is_waiting(session: Session, table: Table) -> bool:
    """Whether a claim would find something; reads only."""
    return session.scalar(_next_id(table)) is not None


def claim(session: Session, table: type[Errand], worker: str, lease_seconds: float) -> Errand | None:
    """Take the oldest errand that waits, or whose process died; None if there is none."""
    row: Errand | None = session.scalar(_next(table))
    if row is None:
        return None
    row.state = EvaluationState.RUNNING
    row.worker = worker
    row.fence += 1
    row.attempts += 1
    row.lease_until = _lease_end(lease_seconds)
    session.flush()
    return row


def _lease_end(seconds: float) -> Any:
    return now_ms() + int(seconds * 1000)


def write(session: Session, lease: ErrandLease, **values: Any) -> None:
    """The guarded update under all writes of a lease; raises LeaseLost."""
    table = lease.table
    held = update(table).where(
        table.id == lease.id, table.fence == lease.fence, table.state == EvaluationState.RUNNING
    )
    if changed_rows(session, held.values(**values)) == 0:
        raise LeaseLost(lease.id, lease.fence)


def beat(session: Session, lease: ErrandLease, lease_seconds: float) -> None:
    """Sign of life."""
    write(session, lease, lease_until=_lease_end(lease_seconds))


def end(session: Session, lease: ErrandLease, state: EvaluationState, **values: Any) -> None:
    """Terminal."""
    write(session, lease, state=state, **_last(lease.table), **values)


def _last(table: Table) -> dict[str, Any]:
    values: dict[str, Any] = {"lease_until": None, "finished_at": now_ms()}
    # The rows that came with a request are kept only as long as they are needed.
    return values | {"request": None} if table is Prediction else values


def fail(session: Session, lease: ErrandLease, detail: str) -> None:
    """It cannot be done: terminal."""
    end(session, lease, EvaluationState.FAILED, detail=detail)


def give_back(session: Session, lease: ErrandLease, detail: str) -> None:
    """Its process died: another try, unless it had MOST_ATTEMPTS."""
    attempts = session.scalar(select(lease.table.attempts).where(lease.table.id == lease.id))
    if (attempts or 0) >= MOST_ATTEMPTS:
        fail(session, lease, detail)
    else:
        put_back(session, lease, detail)


def put_back(session: Session, lease: ErrandLease, detail: str) -> None:
    """It waits again."""
    write(session, lease, state=EvaluationState.QUEUED, lease_until=None, detail=detail)


def interrupt(session: Session, lease: ErrandLease) -> None:
    """Its worker was told to stop: it waits again, and this try does not count."""
    put_back(session, lease, "Its worker was told to stop.")
    session.execute(
        update(lease.table).where(lease.table.id == lease.id).values(attempts=lease.table.attempts - 1)
    )


def abandon(session: Session, table: Table) -> int:
    """Fail errands whose last allowed process died unseen; returns how many."""
    return changed_rows(
        session,
        update(table)
        .where(
            table.state == EvaluationState.RUNNING,
            table.lease_until < now_ms(),
            table.attempts >= MOST_ATTEMPTS,
        )
        .values(
            state=EvaluationState.FAILED,
            detail=f"Its process was lost {MOST_ATTEMPTS} times.",
            **_last(table),
        ),
    )


def release_all(session: Session, table: Table, worker: str) -> int:
    """End the leases that a worker of this name held: it has just started. Returns how many."""
    held = update(table).where(table.worker == worker, table.state == EvaluationState.RUNNING)
    return changed_rows(session, held.values(lease_until=now_ms() - 1))

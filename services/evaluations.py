"""Evaluations of finished jobs that people ask for, and the ledger of looks at sealed test splits."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from services.errors import Conflict, LeaseLost, NotFound
from services.ids import new_id
from services.models import DatasetVersion, Evaluation, Job, Look, Owner
from services.states import EvaluationState, JobState, Split
from services.store import changed_rows, now_ms

# Tries after which an evaluation whose process keeps dying fails.
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class EvaluationLease:
    """The right to write for an evaluation."""

    evaluation_id: str
    fence: int


@dataclass(frozen=True)
class EvaluationClaim:
    """An evaluation to be done, and all that the process needs of its job."""

    lease: EvaluationLease
    job_id: str
    spec: dict[str, Any]
    split: Split
    dataset_name: str
    dataset_version: str
    dataset_schema: dict[str, Any]
    model_sha256: str


def ask(session: Session, job_id: str, owner_id: str, split: Split, why: str | None) -> str:
    """Queue an evaluation; a look at the test split is in the ledger before it can happen. Returns the id.

    Raises NotFound for no such job, Conflict for one that has no model.
    """
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound("job", job_id)
    if job.state is not JobState.SUCCEEDED:
        raise Conflict(f"Job {job_id} is {job.state}: only a succeeded job has a model to evaluate.")
    if split is Split.VALIDATION and job.spec["split"]["validation"] is None:
        raise Conflict(f"Job {job_id} has no validation split: its spec says split: {{validation: null}}.")
    evaluation_id = new_id()
    session.execute(
        insert(Evaluation).values(
            id=evaluation_id,
            job_id=job_id,
            owner_id=owner_id,
            split=split,
            state=EvaluationState.QUEUED,
            why=why,
            fence=0,
            attempts=0,
            created_at=now_ms(),
        )
    )
    if split is Split.TEST:
        look(session, evaluation_id, why or "")
    return evaluation_id


def look(session: Session, evaluation_id: str, why: str) -> None:
    """Append a look at the test split to the ledger."""
    evaluation = session.get_one(Evaluation, evaluation_id)
    job = session.get_one(Job, evaluation.job_id)
    # The version's row is locked, so that two looks at once do not count the same looks before them.
    session.execute(
        select(DatasetVersion.sha256).where(DatasetVersion.sha256 == job.dataset_version).with_for_update()
    )
    before = session.scalar(
        select(func.count()).select_from(Look).where(Look.dataset_version == job.dataset_version)
    )
    session.execute(
        insert(Look).values(
            id=new_id(),
            dataset_version=job.dataset_version,
            dataset_name=job.dataset_name,
            job_id=job.id,
            subject_id=evaluation_id,
            subject="evaluation",
            owner_name=session.get_one(Owner, evaluation.owner_id).name,
            why=why,
            looks_before=before,
            looked_at=now_ms(),
        )
    )


def claim(session: Session, worker: str, lease_seconds: float) -> EvaluationClaim | None:
    """Take the oldest evaluation that waits, or whose process died; None if there is none."""
    row = session.scalar(
        select(Evaluation)
        .where(
            or_(
                Evaluation.state == EvaluationState.QUEUED,
                (Evaluation.state == EvaluationState.RUNNING) & (Evaluation.lease_until < now_ms()),
            ),
            Evaluation.attempts < MOST_ATTEMPTS,
        )
        .order_by(Evaluation.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    row.state = EvaluationState.RUNNING
    row.worker = worker
    row.fence += 1
    row.attempts += 1
    session.flush()
    lease = EvaluationLease(row.id, row.fence)
    beat(session, lease, lease_seconds)
    job = session.get_one(Job, row.job_id)
    version = session.get_one(DatasetVersion, job.dataset_version)
    return EvaluationClaim(
        lease=lease,
        job_id=job.id,
        spec=job.spec,
        split=row.split,
        dataset_name=job.dataset_name,
        dataset_version=version.sha256,
        dataset_schema=version.schema,
        model_sha256=job.model_sha256 or "",
    )


def _write(session: Session, lease: EvaluationLease, **values: Any) -> None:
    written = changed_rows(
        session,
        update(Evaluation)
        .where(
            Evaluation.id == lease.evaluation_id,
            Evaluation.fence == lease.fence,
            Evaluation.state == EvaluationState.RUNNING,
        )
        .values(**values),
    )
    if written == 0:
        raise LeaseLost(lease.evaluation_id, lease.fence)


def beat(session: Session, lease: EvaluationLease, lease_seconds: float) -> None:
    """Sign of life."""
    _write(session, lease, lease_until=now_ms() + int(lease_seconds * 1000))


def succeed(session: Session, lease: EvaluationLease, metrics: dict[str, float | None], rows: int) -> None:
    """The metrics are known: terminal. The job's run in MLflow has to get them too."""
    _write(
        session,
        lease,
        state=EvaluationState.SUCCEEDED,
        metrics=metrics,
        rows=rows,
        lease_until=None,
        finished_at=now_ms(),
    )
    job_id = select(Evaluation.job_id).where(Evaluation.id == lease.evaluation_id)
    session.execute(
        update(Job)
        .where(Job.id == job_id.scalar_subquery())
        .values(mlflow_synced_at=None, revision=Job.revision + 1)
    )


def fail(session: Session, lease: EvaluationLease, detail: str) -> None:
    """It cannot be done: terminal."""
    _write(
        session,
        lease,
        state=EvaluationState.FAILED,
        detail=detail,
        lease_until=None,
        finished_at=now_ms(),
    )


def give_back(session: Session, lease: EvaluationLease, detail: str) -> None:
    """Its process died: another try, unless it had MOST_ATTEMPTS."""
    attempts = session.scalar(select(Evaluation.attempts).where(Evaluation.id == lease.evaluation_id))
    if (attempts or 0) >= MOST_ATTEMPTS:
        fail(session, lease, detail)
    else:
        _write(session, lease, state=EvaluationState.QUEUED, lease_until=None, detail=detail)


def abandon(session: Session) -> int:
    """Fail evaluations whose last allowed process died unseen; returns how many."""
    return changed_rows(
        session,
        update(Evaluation)
        .where(
            Evaluation.state == EvaluationState.RUNNING,
            Evaluation.lease_until < now_ms(),
            Evaluation.attempts >= MOST_ATTEMPTS,
        )
        .values(
            state=EvaluationState.FAILED,
            detail=f"Its process was lost {MOST_ATTEMPTS} times.",
            lease_until=None,
            finished_at=now_ms(),
        ),
    )


def release_all(session: Session, worker: str) -> int:
    """End the leases that a worker of this name held: it has just started. Returns how many."""
    held = update(Evaluation).where(Evaluation.worker == worker, Evaluation.state == EvaluationState.RUNNING)
    return changed_rows(session, held.values(lease_until=now_ms() - 1))

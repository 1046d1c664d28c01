"""Evaluations of finished jobs that people ask for."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services import errands
from services.answers import Outcome
from services.errands import Asked, ErrandLease
from services.errors import Conflict
from services.jobs import Request
from services.models import DatasetVersion, Evaluation, Job
from services.states import EvaluationState, Split


@dataclass(frozen=True)
class EvaluationClaim:
    """An evaluation to be done, and all that the process needs of its job."""

    lease: ErrandLease
    job_id: str
    spec: dict[str, Any]
    split: Split
    dataset_name: str
    dataset_version: str
    dataset_schema: dict[str, Any]
    model_sha256: str
    target_scaling: dict[str, Any] | None


def ask(
    session: Session,
    job_id: str,
    owner_id: str,
    split: Split,
    why: str | None,
    request: Request | None = None,
) -> Asked:
    """Queue an evaluation; a look at the test split is in the ledger before it can happen.

    Raises NotFound for no such job, Conflict for one that has no model, KeyReused.
    """

    def insert() -> str:
        return errands.insert_row(session, Evaluation, job, owner_id, request, split=split, why=why)

    if before := errands.repeated(session, Evaluation, owner_id, request):
        return before
    job = errands.finished_job(session, job_id, "evaluate", is_held=True)
    errands.require_split(job, split)
    return errands.ask_once(session, Evaluation, owner_id, request, insert)


def look(session: Session, evaluation_id: str, why: str) -> None:
    """Append the look of an evaluation that the spec asked for to the ledger."""
    errands.look(session, Evaluation, evaluation_id, why)


def claim(session: Session, worker: str, lease_seconds: float) -> EvaluationClaim | None:
    """Take the oldest evaluation that waits, or whose process died; None if there is none."""
    row = errands.claim(session, Evaluation, worker, lease_seconds)
    if row is None:
        return None
    job = session.get_one(Job, row.job_id)
    version = session.get_one(DatasetVersion, job.dataset_version)
    return EvaluationClaim(
        lease=ErrandLease(Evaluation, row.id, row.fence),
        job_id=job.id,
        spec=job.spec,
        split=row.split,
        dataset_name=job.dataset_name,
        dataset_version=version.sha256,
        dataset_schema=version.schema,
        model_sha256=job.model_sha256 or "",
        target_scaling=job.target_scaling,
    )


def succeed(
    session: Session,
    lease: ErrandLease,
    metrics: dict[str, float | None],
    rows: int,
    outcome: dict[str, Any] | None = None,
) -> None:
    """The metrics are known: terminal. The job's run in MLflow has to get them too."""
    errands.end(session, lease, EvaluationState.SUCCEEDED, metrics=metrics, rows=rows, outcome=outcome)
    job_id = select(Evaluation.job_id).where(Evaluation.id == lease.id)
    session.execute(
        update(Job)
        .where(Job.id == job_id.scalar_subquery())
        .values(mlflow_synced_at=None, revision=Job.revision + 1)
    )


def newest_outcome(session: Session, job_id: str, split: Split) -> tuple[int, Outcome]:
    """Rows and outcome of the newest evaluation on a split that has one; raises Conflict if none has."""
    row = session.scalar(
        select(Evaluation)
        .where(Evaluation.job_id == job_id, Evaluation.split == split, Evaluation.outcome.is_not(None))
        .order_by(Evaluation.id.desc())
        .limit(1)
    )
    if row is None or row.outcome is None:
        reason = ' and a "reason"' if split is Split.TEST else ""
        raise Conflict(
            f"Job {job_id} has no evaluation on the {split} split to draw. "
            f'Ask for one first: POST /v1/jobs/{job_id}/evaluations with {{"split": "{split}"}}{reason}.'
        )
    return row.rows or 0, Outcome.model_validate(row.outcome)

"""What MLflow is to hold of each job, and what it has confirmed. SQL only: nothing here speaks to MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.orm import Session

from services.errors import NotFound
from services.models import Attempt, DatasetVersion, Epoch, Evaluation, Job, MlflowRemoval, Owner
from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.states import TERMINAL_STATES, EvaluationState
from services.store import now_ms


@dataclass(frozen=True)
class Due:
    """Ids of jobs of which MLflow lacks something."""

    live: list[str]
    """Claimed and not ended; oldest first."""
    ended: list[str]
    """Terminal; those that ended first come first."""
    deleted: list[str]
    """Deleted, and their runs are to go, too; oldest first."""


@dataclass(frozen=True)
class Record:
    """All of a job that MLflow is to hold, as of the job's `revision`."""

    job: Job
    owner: str
    spec: TrainSpec
    schema: DatasetSchema | None
    """Null for a job that ended before its dataset was ready."""
    device: str | None
    epochs: list[Epoch]
    """Covered by a checkpoint, in order."""
    evaluations: list[Evaluation]
    """Those that succeeded, oldest first."""


def due(session: Session) -> Due:
    """Jobs of which MLflow lacks something. A queued job that nobody has claimed yet is not among them."""
    lags = or_(Job.mlflow_run_id.is_(None), Job.mlflow_epochs != Job.epochs_covered)
    live = select(Job.id).where(Job.state.not_in(TERMINAL_STATES), Job.attempts > 0, lags)
    ended = select(Job.id).where(Job.state.in_(TERMINAL_STATES), Job.mlflow_synced_at.is_(None))
    return Due(
        live=list(session.scalars(live.order_by(Job.id))),
        ended=list(session.scalars(ended.order_by(Job.finished_at, Job.id))),
        deleted=list(session.scalars(select(MlflowRemoval.job_id).order_by(MlflowRemoval.asked_at))),
    )


def read(session: Session, job_id: str, *, unconfirmed_only: bool = False) -> Record:
    """The record, with all covered epochs or with those that MLflow has not confirmed; raises NotFound."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFound("job", job_id)
    version = session.get(DatasetVersion, job.dataset_version) if job.dataset_version else None
    attempt = session.get(Attempt, (job_id, job.attempts))
    return Record(
        job=job,
        owner=session.get_one(Owner, job.owner_id).name,
        spec=TrainSpec.model_validate(job.spec),
        schema=None if version is None else DatasetSchema.model_validate(version.schema),
        device=None if attempt is None else attempt.device,
        epochs=_covered_epochs(session, job, job.mlflow_epochs if unconfirmed_only else 0),
        evaluations=_done_evaluations(session, job_id),
    )


def _covered_epochs(session: Session, job: Job, from_epoch: int) -> list[Epoch]:
    query = select(Epoch).where(
        Epoch.job_id == job.id, Epoch.epoch >= from_epoch, Epoch.epoch < job.epochs_covered
    )
    return list(session.scalars(query.order_by(Epoch.epoch)))


def _done_evaluations(session: Session, job_id: str) -> list[Evaluation]:
    query = select(Evaluation).where(
        Evaluation.job_id == job_id, Evaluation.state == EvaluationState.SUCCEEDED
    )
    return list(session.scalars(query.order_by(Evaluation.id)))


def is_there(session: Session, job_id: str) -> bool:
    """Whether the job has not been deleted."""
    return session.scalar(select(Job.id).where(Job.id == job_id)) is not None


def note_run(session: Session, job_id: str, experiment_id: str, run_id: str) -> None:
    """The job's run is this one; what another run confirmed counts no longer."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, or_(Job.mlflow_run_id.is_(None), Job.mlflow_run_id != run_id))
        .values(
            mlflow_run_id=run_id,
            mlflow_experiment_id=experiment_id,
            mlflow_epochs=0,
            revision=Job.revision + 1,
        )
    )


def forget_run(session: Session, job_id: str, run_id: str) -> None:
    """The job has no run any more; another will be made."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.mlflow_run_id == run_id)
        .values(mlflow_run_id=None, mlflow_epochs=0, revision=Job.revision + 1)
    )


def note_epochs(session: Session, job_id: str, run_id: str, count: int) -> None:
    """The run holds the first `count` epochs."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.mlflow_run_id == run_id)
        .values(mlflow_epochs=count, mlflow_problem=None)
    )


def mark_synced(session: Session, record: Record) -> bool:
    """MLflow was found to hold the record; False if the job has changed since it was read."""
    marked: CursorResult[tuple[()]] = session.execute(  # type: ignore[assignment]
        update(Job)
        .where(Job.id == record.job.id, Job.revision == record.job.revision)
        .values(
            mlflow_synced_at=now_ms(),
            mlflow_epochs=Job.epochs_covered,
            mlflow_problem=None,
            revision=Job.revision + 1,
        )
    )
    return marked.rowcount == 1


def note_problem(session: Session, job_ids: Sequence[str], problem: str) -> None:
    """Why MLflow still lacks something of these jobs, or still holds those of them that were deleted."""
    session.execute(
        update(Job)
        .where(Job.id.in_(job_ids), Job.mlflow_problem.is_distinct_from(problem))
        .values(mlflow_problem=problem)
    )
    session.execute(update(MlflowRemoval).where(MlflowRemoval.job_id.in_(job_ids)).values(problem=problem))


def note_removed(session: Session, job_id: str) -> None:
    """MLflow holds nothing of the deleted job any more."""
    session.execute(delete(MlflowRemoval).where(MlflowRemoval.job_id == job_id))

"""What a worker writes for a job it has claimed. Each write names the fence; none succeeds with an old one.

The caller owns the transaction. `LeaseLost` means that the job is somebody else's: end the trainer, write
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from services.errors import LeaseLost
from services.events import record
from services.ids import new_id
from services.models import Attempt, Checkpoint, DatasetVersion, Epoch, Evaluation, Job
from services.order import queued
from services.retries import Again, Ended, GiveUp, decide
from services.states import EvaluationState, JobState, Reason, Relation, Split
from services.store import CLAIM_LOCK, changed_rows, now_ms


@dataclass(frozen=True)
class Lease:
    """The right to write for a job."""

    job_id: str
    fence: int
    attempt: int


@dataclass(frozen=True)
class Claim:
    """A job that was claimed, and all that a trainer needs of it."""

    lease: Lease
    owner_id: str
    spec: dict[str, Any]
    dataset_name: str
    dataset_version: str
    dataset_schema: dict[str, Any]
    checkpoints: list[Checkpoint]
    """Newest first."""
    best: dict[str, Any] | None
    """Best epoch of the attempts before, by the same monitor."""
    is_continued: bool
    """Whether it was made to train more epochs than its parent had."""


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint that is on disk already."""

    epoch: int
    """Epochs done when it was taken."""
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class EpochResult:
    """One epoch, and the checkpoint taken at its end if there was one."""

    epoch: int
    metrics: dict[str, float | None]
    learning_rate: float
    seconds: float
    examples: int
    checkpoint: CheckpointFile | None


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of the finished model on one split."""

    split: Split
    metrics: dict[str, float | None]
    rows: int
    outcome: dict[str, Any] | None = None


def claim(session: Session, worker: str, device: str, lease_seconds: float) -> Claim | None:
    """Take the job whose turn it is; None if no queued job can start.

    Claims come one after the other, so that each sees what the one before it changed.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CLAIM_LOCK})
    waiting = queued(session)
    if not waiting or not waiting[0].can_start:
        return None
    job_id = waiting[0].job_id
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == JobState.QUEUED)
        .values(
            state=JobState.RUNNING,
            fence=Job.fence + 1,
            attempts=Job.attempts + 1,
            lease_until=_lease_end(lease_seconds),
            started_at=func.coalesce(Job.started_at, now_ms()),
            reason=None,
            detail=None,
            epochs_done=Job.epochs_covered,
            epoch_fraction=0.0,
            revision=Job.revision + 1,
        )
    )
    return _begin_attempt(session, job_id, worker, device)


def _begin_attempt(session: Session, job_id: str, worker: str, device: str) -> Claim | None:
    job = session.get(Job, job_id, populate_existing=True)
    if job is None or job.state is not JobState.RUNNING:
        return None
    # Epochs that no checkpoint covers are trained again, by this attempt.
    session.execute(delete(Epoch).where(Epoch.job_id == job_id, Epoch.epoch >= job.epochs_covered))
    session.execute(
        insert(Attempt).values(
            job_id=job_id,
            number=job.attempts,
            fence=job.fence,
            worker=worker,
            device=device,
            started_at=now_ms(),
            first_epoch=job.epochs_covered,
        )
    )
    began = {"attempt": job.attempts, "worker": worker, "from_epoch": job.epochs_covered}
    record(session, job_id, "state", {"state": JobState.RUNNING, **began})
    version = session.get_one(DatasetVersion, job.dataset_version)
    checkpoints = session.scalars(
        select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.epoch.desc())
    ).all()
    return Claim(
        lease=Lease(job_id, job.fence, job.attempts),
        owner_id=job.owner_id,
        spec=job.spec,
        dataset_name=job.dataset_name,
        dataset_version=version.sha256,
        dataset_schema=version.schema,
        checkpoints=list(checkpoints),
        best=job.best,
        is_continued=job.relation is Relation.CONTINUE,
    )


def _lease_end(seconds: float) -> Any:
    return now_ms() + int(seconds * 1000)


def _write(session: Session, lease: Lease, **values: Any) -> None:
    """The guarded update under all writes of an attempt; it takes the job's row lock first."""
    written = changed_rows(
        session,
        update(Job)
        .where(Job.id == lease.job_id, Job.fence == lease.fence, Job.state == JobState.RUNNING)
        .values(revision=Job.revision + 1, **values),
    )
    if written == 0:
        raise LeaseLost(lease.job_id, lease.fence)


def beat(session: Session, lease: Lease, lease_seconds: float, fraction: float) -> None:
    """Sign of life, with the part of the epoch under way that is done."""
    _write(session, lease, lease_until=_lease_end(lease_seconds), epoch_fraction=fraction)


def is_unwanted(session: Session, lease: Lease) -> bool:
    """Whether somebody asked for the job's end; raises LeaseLost if the job is not the lease's any more."""
    row = session.execute(
        select(Job.cancel_requested_at).where(
            Job.id == lease.job_id, Job.fence == lease.fence, Job.state == JobState.RUNNING
        )
    ).one_or_none()
    if row is None:
        raise LeaseLost(lease.job_id, lease.fence)
    return row[0] is not None


def note_environment(session: Session, lease: Lease, environment: dict[str, Any]) -> None:
    """Store what the trainer said of its surroundings."""
    _write(session, lease, environment=environment)


def engine_chosen(session: Session, lease: Lease, engine: str, why: str) -> None:
    """The engine that trains, known before the first epoch."""
    _write(session, lease, engine=engine, engine_why=why)


def started_up(session: Session, lease: Lease, seconds: dict[str, float]) -> None:
    """Where the time went from the claim until the first epoch was stored."""
    _write(session, lease, startup=seconds)


def resumed(session: Session, lease: Lease, epoch: int) -> None:
    """The trainer goes on at this epoch, which lies before the covered ones if a checkpoint was unusable."""
    # Without its parent's checkpoint a job trains the inherited epochs itself, and gets the same.
    inherited = case((Job.epochs_inherited > epoch, epoch), else_=Job.epochs_inherited)
    _write(session, lease, epochs_done=epoch, epochs_covered=epoch, epochs_inherited=inherited)
    session.execute(delete(Epoch).where(Epoch.job_id == lease.job_id, Epoch.epoch >= epoch))
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == lease.job_id, Checkpoint.epoch > epoch))
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == lease.job_id, Attempt.number == lease.attempt)
        .values(first_epoch=epoch)
    )
    record(session, lease.job_id, "resumed", {"epoch": epoch})


def checkpoint_skipped(session: Session, lease: Lease, path: str, why: str) -> None:
    """A checkpoint could not be used."""
    _write(session, lease)
    record(session, lease.job_id, "checkpoint_skipped", {"path": path, "why": why})


def write_epochs(
    session: Session,
    lease: Lease,
    results: Sequence[EpochResult],
    lease_seconds: float,
    best: dict[str, Any] | None,
) -> None:
    """Store finished epochs and their checkpoints; counts as a sign of life.

    May be tried again after a commit whose answer was lost: epochs that are stored already stay as they are.
    """
    taken = [result.checkpoint for result in results if result.checkpoint is not None]
    values: dict[str, Any] = {"epochs_done": results[-1].epoch + 1, "epoch_fraction": 0.0}
    if taken:
        values["epochs_covered"] = taken[-1].epoch
    if best is not None:
        values["best"] = best
    _write(session, lease, lease_until=_lease_end(lease_seconds), **values)
    last = session.scalar(select(func.max(Epoch.epoch)).where(Epoch.job_id == lease.job_id))
    new = [result for result in results if last is None or result.epoch > last]
    if not new:
        return
    session.execute(insert(Epoch), _epoch_rows(session, lease, new))
    for result in new:
        if result.checkpoint is not None:
            _replace_checkpoint(session, lease, result.checkpoint)


def _epoch_rows(session: Session, lease: Lease, results: Sequence[EpochResult]) -> list[dict[str, Any]]:
    # MLflow's key of a point holds its timestamp, so two epochs of a job never share one.
    now = session.scalar(select(now_ms())) or 0
    last = session.scalar(select(func.max(Epoch.ended_at)).where(Epoch.job_id == lease.job_id)) or 0
    start = max(now, last + 1)
    return [
        {
            "job_id": lease.job_id,
            "epoch": result.epoch,
            "fence": lease.fence,
            "metrics": result.metrics,
            "learning_rate": result.learning_rate,
            "seconds": result.seconds,
            "examples": result.examples,
            "ended_at": start + offset,
        }
        for offset, result in enumerate(results)
    ]


def _replace_checkpoint(session: Session, lease: Lease, file: CheckpointFile) -> None:
    """Insert the row and forget all but the one before it, as the trainer keeps two files."""
    session.execute(
        insert(Checkpoint).values(
            job_id=lease.job_id,
            epoch=file.epoch,
            fence=lease.fence,
            path=file.path,
            bytes=file.bytes,
            sha256=file.sha256,
        )
    )
    newest = select(Checkpoint.epoch).where(Checkpoint.job_id == lease.job_id)
    kept = session.scalars(newest.order_by(Checkpoint.epoch.desc()).limit(2)).all()
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == lease.job_id, Checkpoint.epoch < min(kept)))


def succeed(
    session: Session,
    lease: Lease,
    *,
    reason: Reason,
    detail: str,
    best: dict[str, Any] | None,
    model_sha256: str,
    timings: dict[str, float],
    engine: str | None,
    target_scaling: dict[str, Any] | None = None,
) -> None:
    """The job has its model: terminal."""
    _write(
        session,
        lease,
        state=JobState.SUCCEEDED,
        reason=reason,
        detail=detail,
        best=best,
        model_sha256=model_sha256,
        timings=timings,
        engine=engine,
        target_scaling=target_scaling,
        epochs_covered=Job.epochs_done,
        epoch_fraction=0.0,
        lease_until=None,
        finished_at=now_ms(),
    )
    _end_attempt(session, lease, reason, detail)
    record(session, lease.job_id, "state", {"state": JobState.SUCCEEDED, "reason": reason})


def end_cancelled(session: Session, lease: Lease) -> None:
    """The trainer is gone because somebody asked for it: terminal."""
    _end(session, lease, JobState.CANCELLED, Reason.USER_CANCELLED, "Cancelled while it was running.")


def end_failed(session: Session, lease: Lease, reason: Reason, detail: str) -> JobState:
    """An attempt ended badly: the job is queued again or fails, by the causes' table. Returns the state."""
    # Takes the row's lock: a cancel came before and is seen, or waits and finds what follows.
    _write(session, lease)
    unwanted = is_unwanted(session, lease)
    _end_attempt(session, lease, reason, detail)
    if unwanted:
        end_cancelled(session, lease)
        return JobState.CANCELLED
    verdict = decide(_ended_attempts(session, lease.job_id))
    if isinstance(verdict, GiveUp):
        _end(session, lease, JobState.FAILED, verdict.reason, detail)
        return JobState.FAILED
    _requeue(session, lease, reason, detail, verdict)
    return JobState.QUEUED


def _end(session: Session, lease: Lease, state: JobState, reason: Reason, detail: str) -> None:
    _write(
        session,
        lease,
        state=state,
        reason=reason,
        detail=detail,
        lease_until=None,
        finished_at=now_ms(),
        epoch_fraction=0.0,
        # Nothing will train these epochs again: what SQL holds is final, and MLflow may have it.
        epochs_covered=Job.epochs_done,
    )
    _end_attempt(session, lease, reason, detail)
    record(session, lease.job_id, "state", {"state": state, "reason": reason})


def _requeue(session: Session, lease: Lease, reason: Reason, detail: str, again: Again) -> None:
    _write(
        session,
        lease,
        state=JobState.QUEUED,
        reason=reason,
        detail=detail,
        lease_until=None,
        epoch_fraction=0.0,
        run_after_at=now_ms() + int(again.delay_seconds * 1000),
    )
    record(session, lease.job_id, "state", {"state": JobState.QUEUED, "reason": reason})


def _end_attempt(session: Session, lease: Lease, reason: Reason, detail: str) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == lease.job_id, Attempt.number == lease.attempt, Attempt.ended_at.is_(None))
        .values(ended_at=now_ms(), reason=reason, detail=detail)
    )


def _ended_attempts(session: Session, job_id: str) -> list[Ended]:
    covered = select(Job.epochs_covered).where(Job.id == job_id).scalar_subquery()
    gained = (
        select(func.count())
        .where(Epoch.job_id == job_id, Epoch.fence == Attempt.fence, Epoch.epoch < covered)
        .scalar_subquery()
    )
    rows = session.execute(
        select(Attempt.reason, gained)
        .where(Attempt.job_id == job_id, Attempt.ended_at.is_not(None))
        .order_by(Attempt.number)
    )
    return [Ended(reason or Reason.INFRASTRUCTURE, count) for reason, count in rows]


def store_evaluations(
    session: Session, lease: Lease, owner_id: str, results: Sequence[EvaluationResult]
) -> list[str]:
    """Store what the trainer evaluated at its end because the spec asked for it; returns the rows' ids."""
    ids = [new_id() for _ in results]
    for id_, result in zip(ids, results, strict=True):
        session.execute(
            insert(Evaluation).values(
                id=id_,
                job_id=lease.job_id,
                owner_id=owner_id,
                split=result.split,
                state=EvaluationState.SUCCEEDED,
                why="asked for in the spec",
                metrics=result.metrics,
                outcome=result.outcome,
                rows=result.rows,
                fence=0,
                attempts=1,
                created_at=now_ms(),
                finished_at=now_ms(),
            )
        )
    return ids


def expired(session: Session) -> list[Lease]:
    """Leases whose time is over by the database's clock; none can be renewed before the caller commits."""
    rows = session.execute(
        select(Job.id, Job.fence, Job.attempts)
        .where(Job.state == JobState.RUNNING, Job.lease_until < now_ms())
        # A row that is locked is being written: its worker lives.
        .with_for_update(skip_locked=True)
    )
    return [Lease(*row) for row in rows]


def release_all(session: Session, worker: str) -> int:
    """End the leases that a worker of this name held: it has just started, so its earlier life is over.

    Returns how many. The reconciler then decides as for any lost worker.
    """
    held = select(Attempt.job_id).where(Attempt.worker == worker, Attempt.ended_at.is_(None))
    running = update(Job).where(Job.id.in_(held), Job.state == JobState.RUNNING)
    return changed_rows(session, running.values(lease_until=now_ms() - 1))

"""What people do to jobs: submit, change, cancel, delete. The caller owns the transaction."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services import datasets
from services.errors import Conflict, KeyReused, NotFound
from services.events import record
from services.ids import new_id
from services.models import Deletion, IdempotencyKey, Job, MlflowRemoval
from services.problems import Problem, SpecInvalid
from services.shapes import parameters
from services.spec import MAX_LABELS, TrainSpec
from services.states import JobState, Reason, Relation
from services.store import changed_rows, now_ms


@dataclass(frozen=True)
class Accepted:
    """The answer to a submit."""

    job_id: str
    is_new: bool
    """False if the idempotency key named a job that was there already."""


@dataclass(frozen=True)
class Request:
    """What makes two submits the same one."""

    key: str
    sha256: str


@dataclass(frozen=True)
class Origin:
    """What a job made from another one has of its parent."""

    job_id: str
    """The id that the new job will have: files may be in its folder already."""
    parent_id: str
    relation: Relation
    epochs: int = 0
    """Epochs of the parent's history that the job begins with; the caller copies them."""
    best: dict[str, Any] | None = None
    """The best of those."""


def repeated(session: Session, owner_id: str, request: Request) -> Accepted | None:
    """The job that this idempotency key made before; raises KeyReused if it came with another body."""
    row = session.get(IdempotencyKey, (owner_id, request.key))
    if row is None:
        return None
    if row.request_sha256 != request.sha256:
        raise KeyReused(request.key)
    return Accepted(row.job_id, is_new=False)


def submit(
    session: Session,
    owner_id: str,
    spec: TrainSpec,
    known: datasets.Known,
    request: Request | None,
    origin: Origin | None = None,
) -> Accepted:
    """Store a checked, resolved spec as a queued job; raises DataDeleted if its data went meanwhile.

    Of parallel submits with one key exactly one makes a job, and all get that job.
    """
    if request is None:
        return Accepted(_insert(session, owner_id, spec, known, origin), is_new=True)
    if before := repeated(session, owner_id, request):
        return before
    try:
        with session.begin_nested():
            job_id = _insert(session, owner_id, spec, known, origin)
            session.execute(
                insert(IdempotencyKey).values(
                    owner_id=owner_id,
                    key=request.key,
                    request_sha256=request.sha256,
                    job_id=job_id,
                    created_at=now_ms(),
                )
            )
    except IntegrityError:
        # Another request with this key committed between the look-up and the insert.
        before = repeated(session, owner_id, request)
        if before is None:
            raise
        return before
    return Accepted(job_id, is_new=True)


def _insert(
    session: Session, owner_id: str, spec: TrainSpec, known: datasets.Known, origin: Origin | None
) -> str:
    # The dataset may have become ready since the spec was checked.
    version = known.version or datasets.want(session, known.name)
    if version is not None:
        datasets.hold(session, known.name, version)
    document = spec.model_dump(mode="json")
    job_id = new_id() if origin is None else origin.job_id
    inherited = 0 if origin is None else origin.epochs
    session.execute(
        insert(Job).values(
            id=job_id,
            owner_id=owner_id,
            name=spec.name,
            state=JobState.QUEUED,
            spec=document,
            spec_sha256=spec_digest(document),
            labels=spec.labels,
            dataset_name=known.name,
            dataset_version=version,
            params_count=parameters(spec, known.schema),
            epochs=spec.fit.epochs,
            epochs_done=inherited,
            epochs_covered=inherited,
            epoch_fraction=0.0,
            best=None if origin is None else origin.best,
            parent_id=None if origin is None else origin.parent_id,
            relation=None if origin is None else origin.relation,
            epochs_inherited=inherited,
            priority=0,
            revision=1,
            changed_at=now_ms(),
            fence=0,
            attempts=0,
            run_after_at=now_ms(),
            created_at=now_ms(),
            timings={},
            environment={},
            startup={},
            mlflow_epochs=0,
        )
    )
    record(session, job_id, "state", {"state": JobState.QUEUED})
    return job_id


def spec_digest(document: object) -> str:
    """SHA-256 of a document's canonical JSON: keys sorted, no blanks."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def patch(session: Session, job_id: str, asked: Mapping[str, Any]) -> None:
    """Change `labels` (merged, null takes one away), `note` or `priority`, in any state.

    Raises NotFound, and SpecInvalid for more labels than a job may have.
    """
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise NotFound("job", job_id)
    wanted = {**asked, "labels": _merged(job.labels, asked.get("labels", {}))}
    changed = {name: value for name, value in wanted.items() if value != getattr(job, name)}
    if not changed:
        return
    if "note" in changed:
        # MLflow shows it: an ended job is exported once more.
        job.mlflow_synced_at = None
    for name, value in changed.items():
        setattr(job, name, value)
    job.revision += 1
    session.flush()
    record(session, job_id, "patched", changed)


def _merged(labels: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    """RFC 7396, for one level."""
    merged = {key: value for key, value in {**labels, **patch}.items() if value is not None}
    if len(merged) > MAX_LABELS:
        message = f"The job would have {len(merged)} labels."
        expected = f"at most {MAX_LABELS} in all; a label that is sent as null is taken away"
        raise SpecInvalid((Problem("too_many", "/labels", message, len(merged), expected),))
    return merged


def cancel(session: Session, job_id: str) -> JobState:
    """End a job: at once if it is queued, otherwise as a wish that its supervisor sees within seconds.

    Returns the state afterwards. Cancelling a cancelled job is no error; raises Conflict for one that
    succeeded or failed, NotFound for none.
    """
    state = _locked_state(session, job_id)
    if state is JobState.QUEUED:
        _cancel_queued(session, job_id)
        return JobState.CANCELLED
    if state is JobState.RUNNING:
        _wish_for_end(session, job_id)
    elif state is not JobState.CANCELLED:
        raise Conflict(f"Job {job_id} has {state} already; there is nothing to cancel.")
    return state


def _cancel_queued(session: Session, job_id: str) -> None:
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == JobState.QUEUED)
        .values(
            state=JobState.CANCELLED,
            reason=Reason.USER_CANCELLED,
            detail="Cancelled while it was queued.",
            cancel_requested_at=now_ms(),
            finished_at=now_ms(),
            revision=Job.revision + 1,
        )
    )
    record(session, job_id, "state", {"state": JobState.CANCELLED, "reason": Reason.USER_CANCELLED})


def _wish_for_end(session: Session, job_id: str) -> None:
    wished = changed_rows(
        session,
        update(Job)
        .where(Job.id == job_id, Job.state == JobState.RUNNING, Job.cancel_requested_at.is_(None))
        .values(cancel_requested_at=now_ms(), revision=Job.revision + 1),
    )
    if wished:
        record(session, job_id, "cancel_requested", {})


def delete(session: Session, job_id: str, *, also_in_mlflow: bool = False) -> None:
    """Remove a terminal job and all its rows; looks at test splits stay in the ledger.

    Its run in MLflow stays, too, unless `also_in_mlflow`: then the exporter removes it as soon as it can.

    Raises Conflict for a job that is not terminal, NotFound for none. Files are the caller's to remove
    after the commit.
    """
    state = _locked_state(session, job_id)
    if not state.is_terminal:
        raise Conflict(f"Job {job_id} is {state}; cancel it first, then delete it.")
    session.execute(sql_delete(Job).where(Job.id == job_id))
    session.execute(insert(Deletion).values(job_id=job_id, deleted_at=now_ms()))
    if also_in_mlflow:
        session.execute(insert(MlflowRemoval).values(job_id=job_id, asked_at=now_ms()))


def _locked_state(session: Session, job_id: str) -> JobState:
    # Locked: between the look and the write the job can be claimed, queued again or ended.
    state = session.scalar(select(Job.state).where(Job.id == job_id).with_for_update())
    if state is None:
        raise NotFound("job", job_id)
    return state

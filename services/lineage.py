"""Jobs made from jobs: continued, tried again, cloned.

A child stands alone: its parent's epochs, and the checkpoint that it goes on from, are its own from the
start. The caller looks in one transaction (`continue_`, `retry`, `clone`), hands the file down, then submits
in another.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from services import datasets, jobs, results
from services.artifacts import job_folder
from services.best import Monitor
from services.errors import Conflict, NotFound
from services.ids import new_id
from services.intake import assign, examine
from services.jobs import Accepted, Origin, Request
from services.models import Checkpoint, DatasetVersion, Epoch, Job
from services.problems import Problem, SpecInvalid
from services.spec import MAX_EPOCHS, EarlyStopping, TrainSpec
from services.states import JobState, Reason, Relation

INHERITED_FENCE = 0


class StoppingChange(StrEnum):
    """What becomes of a parent's early stopping."""

    RESET = "reset"
    REMOVE = "remove"


@dataclass(frozen=True)
class Child:
    """A job to be made from another one."""

    spec: TrainSpec
    known: datasets.Known
    origin: Origin
    checkpoint: Checkpoint | None
    """The parent's, from which the child goes on; None: it begins from scratch."""


def continue_(
    session: Session, root: Path, parent_id: str, epochs: int, early_stopping: StoppingChange | None
) -> Child:
    """So many more epochs after the parent's newest checkpoint: 30 and then 30 more equal 60, bit for bit.

    Raises NotFound; Conflict for a parent that has not ended, that would end the same way again, or whose
    checkpoint is gone; SpecInvalid for too many epochs and for early stopping that has to be dealt with.
    """
    parent = _ended(session, parent_id, "continued")
    if parent.reason in {Reason.DIVERGED, Reason.BAD_SPEC, Reason.BAD_DATA}:
        raise Conflict(_needs_a_change(parent, "more epochs"))
    checkpoint = _newest_checkpoint(session, root, parent_id)
    if checkpoint is None:
        raise Conflict(
            f"Job {parent_id} has no checkpoint to continue from: it ended before the first one, or its "
            "files were removed. Clone it to train from the start."
        )
    spec = _longer(parent, checkpoint.epoch, epochs, early_stopping)
    return _child(session, parent, Relation.CONTINUE, spec, checkpoint)


def retry(session: Session, root: Path, parent_id: str) -> Child:
    """The same once more, for a job that failed or was cancelled; it goes on from the newest checkpoint.

    Raises NotFound; Conflict for a parent that has not ended, succeeded, or would end the same way again.
    """
    parent = _ended(session, parent_id, "tried again")
    if parent.state is JobState.SUCCEEDED:
        raise Conflict(
            f"Job {parent_id} has succeeded: there is nothing to try again. Continue it for more epochs, or "
            "clone it to train anew."
        )
    # Data that never came may come now; data that was there is the same.
    is_hopeless = parent.reason is Reason.BAD_DATA and parent.dataset_version is not None
    if is_hopeless or parent.reason in {Reason.DIVERGED, Reason.BAD_SPEC}:
        raise Conflict(_needs_a_change(parent, "another try"))
    checkpoint = _newest_checkpoint(session, root, parent_id)
    return _child(session, parent, Relation.RETRY, _spec_of(parent), checkpoint)


def clone(session: Session, parent_id: str, changes: Mapping[str, Any]) -> Child:
    """The parent's spec with some values changed, by dotted path; from scratch, whatever the parent's state.

    Raises NotFound, SpecInvalid with all problems of the changed spec, DocumentUnreadable.
    """
    parent = results.find(session, parent_id)
    checked = examine(session, assign(_spec_of(parent).model_dump(mode="json"), changes))
    origin = Origin(new_id(), parent_id, Relation.CLONE)
    return Child(checked.spec, checked.known, origin, None)


def _ended(session: Session, job_id: str, done: str) -> Job:
    job = results.find(session, job_id)
    if not job.state.is_terminal:
        raise Conflict(f"Job {job_id} is {job.state}. It can be {done} once it has ended, or is cancelled.")
    return job


def _needs_a_change(parent: Job, what: str) -> str:
    smaller = parent.spec["compile"]["optimizer"]["learning_rate"] / 10
    example = f', such as {{"set": {{"compile.optimizer.learning_rate": {smaller:g}}}}}'
    return (
        f"Job {parent.id} ended as {parent.reason}, and {what} would end the same way. Clone it with a "
        f"changed value{example if parent.reason is Reason.DIVERGED else '; its detail says what was wrong'}."
    )


def _newest_checkpoint(session: Session, root: Path, job_id: str) -> Checkpoint | None:
    query = select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.epoch.desc())
    there = (row for row in session.scalars(query) if (job_folder(root, job_id) / row.path).is_file())
    return next(there, None)


def _spec_of(parent: Job) -> TrainSpec:
    # Labels may have been changed since the submit.
    return TrainSpec.model_validate({**parent.spec, "labels": parent.labels})


def _longer(parent: Job, done: int, more: int, change: StoppingChange | None) -> TrainSpec:
    if done + more > MAX_EPOCHS:
        message = f"The job would have {done + more:,} epochs: {done:,} are there already."
        expected = f"at most {MAX_EPOCHS - done:,} more, as a job has at most {MAX_EPOCHS:,}"
        raise SpecInvalid((Problem("out_of_range", "/epochs", message, more, expected),))
    spec = _spec_of(parent)
    stopping = _stopping(parent, spec.fit.early_stopping, done, change)
    return spec.model_copy(
        update={"fit": spec.fit.model_copy(update={"epochs": done + more, "early_stopping": stopping})}
    )


def _stopping(
    parent: Job, rule: EarlyStopping | None, done: int, change: StoppingChange | None
) -> EarlyStopping | None:
    if change is None and parent.reason is Reason.STOPPED_EARLY:
        message = f"Early stopping ended job {parent.id}, and would end it again at once."
        raise _stopping_problem(message, None, "`reset` (its patience begins anew) or `remove`")
    if change is not None and rule is None:
        raise _stopping_problem(f"Job {parent.id} has no early stopping.", change, "nothing, or null")
    if change is StoppingChange.REMOVE or rule is None:
        return None
    if change is StoppingChange.RESET:
        # Keras's own way to say it: the spec alone tells what the child trains, also from scratch.
        return rule.model_copy(update={"start_from_epoch": max(done, rule.start_from_epoch)})
    return rule


def _stopping_problem(message: str, received: str | None, expected: str) -> SpecInvalid:
    return SpecInvalid((Problem("early_stopping", "/early_stopping", message, received, expected),))


def _child(
    session: Session, parent: Job, relation: Relation, spec: TrainSpec, checkpoint: Checkpoint | None
) -> Child:
    epochs = 0 if checkpoint is None else checkpoint.epoch
    best = _best(session, parent, spec, epochs)
    origin = Origin(new_id(), parent.id, relation, epochs, best)
    return Child(spec, _same_data(session, parent, spec), origin, checkpoint)


def _best(session: Session, parent: Job, spec: TrainSpec, epochs: int) -> dict[str, Any] | None:
    monitor = Monitor.of(spec.model_dump(mode="json"))
    if parent.best and parent.best["epoch"] < epochs and monitor == Monitor.of(parent.spec):
        return parent.best
    best = None
    for row in results.epochs(session, parent.id):
        if row.epoch < epochs:
            best = monitor.better(best, row.epoch, row.metrics)
    return best


def _same_data(session: Session, parent: Job, spec: TrainSpec) -> datasets.Known:
    if parent.dataset_version is None:
        return datasets.find(session, spec.dataset_name, spec.dataset_version)
    version = session.get_one(DatasetVersion, parent.dataset_version)
    if version.deleted_at is not None:
        raise datasets.DataDeleted(parent.dataset_name, version.sha256)
    return datasets.of_job(session, parent)


def hand_down(root: Path, child: Child) -> None:
    """Put the parent's checkpoint into the child's folder; raises NotFound if the parent is gone by now."""
    if child.checkpoint is None:
        return
    parent_id = child.origin.parent_id
    source = job_folder(root, parent_id) / child.checkpoint.path
    target = job_folder(root, child.origin.job_id) / _inherited_path(child.checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _link_or_copy(source, target)
    except FileNotFoundError:
        take_back(root, child)
        raise NotFound("job", parent_id) from None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        # Checkpoints are never written to again, and a link outlives the other name.
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # A file system without links, or a file of another user.
        shutil.copyfile(source, target)


def _inherited_path(checkpoint: Checkpoint) -> str:
    # Named as the trainer names its own, so that it removes this one, too, when newer ones are there.
    return f"checkpoints/e{checkpoint.epoch - 1}-f{INHERITED_FENCE}.npz"


def take_back(root: Path, child: Child) -> None:
    """Remove what was handed down, for a child that was not made."""
    shutil.rmtree(job_folder(root, child.origin.job_id), ignore_errors=True)


def submit(session: Session, owner_id: str, child: Child, request: Request | None) -> Accepted:
    """Store the child as a queued job with what it inherits; as jobs.submit. Raises NotFound."""
    parent_id = child.origin.parent_id
    # Until the commit nobody can delete it. A lock that kept its row from changing, too, would hold up its
    # heartbeats, and deadlock with `datasets.accept`, which gives a dataset's version to waiting jobs.
    is_there = select(Job.id).where(Job.id == parent_id).with_for_update(read=True, key_share=True)
    if session.scalar(is_there) is None:
        raise NotFound("job", parent_id)
    accepted = jobs.submit(session, owner_id, child.spec, child.known, request, child.origin)
    if accepted.is_new and child.checkpoint is not None:
        _copy_history(session, child.origin)
        _copy_checkpoint(session, child.origin.job_id, child.checkpoint)
    return accepted


def _copy_history(session: Session, origin: Origin) -> None:
    kept = ["epoch", "metrics", "learning_rate", "seconds", "examples", "ended_at"]
    columns = [getattr(Epoch, name) for name in kept]
    rows = select(literal(origin.job_id), literal(INHERITED_FENCE), *columns).where(
        Epoch.job_id == origin.parent_id, Epoch.epoch < origin.epochs
    )
    session.execute(insert(Epoch).from_select(["job_id", "fence", *kept], rows))


def _copy_checkpoint(session: Session, job_id: str, parents: Checkpoint) -> None:
    session.execute(
        insert(Checkpoint).values(
            job_id=job_id,
            epoch=parents.epoch,
            fence=INHERITED_FENCE,
            path=_inherited_path(parents),
            bytes=parents.bytes,
            sha256=parents.sha256,
        )
    )

"""What people read of jobs. Nothing here changes a row."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median_low
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, defer

from services import answers, workers
from services.errors import NotFound
from services.models import Attempt, Checkpoint, Dataset, DatasetVersion, Epoch, Evaluation, Job, Look, Owner
from services.order import Waiting, queued
from services.rows import batches_per_epoch
from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.states import DatasetState, JobState, Relation

# What a job's answer links to.
LINKED = ("history", "events", "spec", "summary", "model", "evaluations", "predictions", "attempts", "logs")
# Epochs from whose seconds the expected end is told.
ETA_EPOCHS = 5


@dataclass(frozen=True)
class Urls:
    """Addresses as people reach them."""

    mlflow: str


def moment(milliseconds: int) -> datetime:
    """A stored time as UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _moment_or_none(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else moment(milliseconds)


def find(session: Session, job_id: str) -> Job:
    """The job's row; raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound("job", job_id)
    return job


def revision(session: Session, job_id: str) -> int:
    """The number that rises with each visible change; raises NotFound."""
    found = session.scalar(select(Job.revision).where(Job.id == job_id))
    if found is None:
        raise NotFound("job", job_id)
    return found


def job(session: Session, job_id: str, urls: Urls) -> answers.Job:
    """All about one job; raises NotFound."""
    return _jobs(session, [find(session, job_id)], urls)[0]


@dataclass(frozen=True)
class Filter:
    """Which jobs to list; None does not filter."""

    state: JobState | None = None
    owner: str | None = None
    dataset: str | None = None
    label: tuple[str, str] | None = None
    parent: str | None = None
    relation: Relation | None = None


def page(session: Session, wanted: Filter, limit: int, after: str | None, urls: Urls) -> answers.JobPage:
    """Jobs, newest first, that were submitted before the job `after`."""
    query = _filtered(wanted).order_by(Job.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(Job.id < after)
    rows = session.scalars(query).all()
    shown = rows[:limit]
    more = len(rows) > limit
    return answers.JobPage(
        data=_jobs(session, shown, urls), has_more=more, next_after=shown[-1].id if more else None
    )


def _filtered(wanted: Filter) -> Select[Job]:
    query = select(Job)
    if wanted.state is not None:
        query = query.where(Job.state == wanted.state)
    if wanted.owner is not None:
        query = query.join(Owner, Owner.id == Job.owner_id).where(Owner.name == wanted.owner)
    if wanted.dataset is not None:
        query = query.where(Job.dataset_name == wanted.dataset)
    if wanted.parent is not None:
        query = query.where(Job.parent_id == wanted.parent)
    if wanted.relation is not None:
        query = query.where(Job.relation == wanted.relation)
    if wanted.label is not None:
        key, value = wanted.label
        query = query.where(Job.labels[key].as_string() == value)
    return query


def _jobs(session: Session, rows: Sequence[Job], urls: Urls) -> list[answers.Job]:
    around = _surroundings(session, rows)
    return [_job(row, around, urls) for row in rows]


@dataclass(frozen=True)
class _Surroundings:
    """What answers about jobs need beside the jobs' rows, by job id; as many queries for one as for many."""

    owners: dict[str, str]
    """Names, by the owner's id."""
    places: dict[str, answers.QueuePlace]
    recent: dict[str, list[Epoch]]
    """The last epochs, newest first."""
    devices: dict[str, str]
    """Of the last attempt."""
    trained: dict[str, tuple[int, float]]
    """When the first epoch of the job's own ended, and the seconds of all of them."""


def _surroundings(session: Session, rows: Sequence[Job]) -> _Surroundings:
    ids = [row.id for row in rows]
    attempts = select(Attempt.job_id, Attempt.device).join(Job, Job.id == Attempt.job_id)
    own = select(Epoch.job_id, func.min(Epoch.ended_at), func.sum(Epoch.seconds)).join(Job)
    own = own.where(Epoch.job_id.in_(ids), Epoch.epoch >= Job.epochs_inherited).group_by(Epoch.job_id)
    devices = attempts.where(Attempt.job_id.in_(ids), Attempt.number == Job.attempts)
    return _Surroundings(
        owners={id_: name for id_, name in session.execute(select(Owner.id, Owner.name))},
        places=_places(session) if any(row.state is JobState.QUEUED for row in rows) else {},
        recent=_recent_epochs(session, ids),
        devices={id_: device for id_, device in session.execute(devices)},
        trained={id_: (first, seconds) for id_, first, seconds in session.execute(own)},
    )


def _recent_epochs(session: Session, ids: Sequence[str]) -> dict[str, list[Epoch]]:
    query = select(Epoch).join(Job).where(Epoch.job_id.in_(ids), Epoch.epoch >= Job.epochs_done - ETA_EPOCHS)
    recent: dict[str, list[Epoch]] = {id_: [] for id_ in ids}
    for epoch in session.scalars(query.order_by(Epoch.epoch.desc())):
        recent[epoch.job_id].append(epoch)
    return recent


def _job(row: Job, around: _Surroundings, urls: Urls) -> answers.Job:
    recent = around.recent[row.id]
    return answers.Job(
        id=row.id,
        name=row.name,
        state=row.state,
        reason=row.reason,
        detail=row.detail,
        owner=around.owners[row.owner_id],
        parent=_parent(row),
        priority=row.priority,
        note=row.note,
        labels=row.labels,
        spec=row.spec,
        seed=row.spec["seed"],
        progress=_progress(row, recent),
        best=None if row.best is None else answers.Best.model_validate(row.best),
        metrics=_finite(recent[0].metrics) if recent else None,
        queue=around.places.get(row.id),
        timings=_timings(row, *around.trained.get(row.id, (None, None))),
        attempts=row.attempts,
        cancel_requested=row.cancel_requested_at is not None,
        dataset=answers.DatasetRef(name=row.dataset_name, version=row.dataset_version),
        params_count=row.params_count,
        device=around.devices.get(row.id),
        engine=row.engine,
        engine_why=row.engine_why,
        environment=row.environment,
        steps_seconds=row.timings,
        mlflow=_mlflow(row, urls),
        links=_links(row.id),
    )


def _finite(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}


def _progress(row: Job, recent: Sequence[Epoch]) -> answers.Progress:
    done = row.epochs_done + row.epoch_fraction
    eta = None
    if row.state is JobState.RUNNING and recent:
        # The parent may have had another device: its epochs tell only until there is one of the job's own.
        own = [epoch for epoch in recent if epoch.epoch >= row.epochs_inherited]
        # The lower middle one: the first epoch of an attempt holds the compilation and says little.
        eta = median_low(epoch.seconds for epoch in own or recent) * (row.epochs - done)
    percent = 100.0 if row.state is JobState.SUCCEEDED else 100 * done / row.epochs
    return answers.Progress(
        epoch=row.epochs_done,
        of=row.epochs,
        inherited=row.epochs_inherited,
        percent=percent,
        eta_seconds=eta,
    )


def _parent(row: Job) -> answers.Parent | None:
    if row.parent_id is None or row.relation is None:
        return None
    return answers.Parent(job=row.parent_id, relation=row.relation)


def _timings(row: Job, first: int | None, seconds: float | None) -> answers.Timings:
    return answers.Timings(
        created_at=moment(row.created_at),
        started_at=_moment_or_none(row.started_at),
        finished_at=_moment_or_none(row.finished_at),
        queue_seconds=_seconds(row.created_at, row.started_at),
        first_epoch_seconds=_seconds(row.created_at, first),
        train_seconds=seconds,
        startup=_startup(row),
    )


def _startup(row: Job) -> dict[str, float]:
    # The wait before a later attempt is not the first one's.
    waited = _seconds(row.created_at, row.started_at) if row.attempts == 1 and row.startup else None
    return ({} if waited is None else {"queue": waited}) | row.startup


def _seconds(start: int, end: int | None) -> float | None:
    return None if end is None else (end - start) / 1000


def _mlflow(row: Job, urls: Urls) -> answers.MlflowLink:
    url = None
    if row.mlflow_run_id is not None:
        url = f"{urls.mlflow}/#/experiments/{row.mlflow_experiment_id}/runs/{row.mlflow_run_id}"
    return answers.MlflowLink(run_id=row.mlflow_run_id, url=url, synced=row.mlflow_synced_at is not None)


def _links(job_id: str) -> dict[str, str]:
    base = f"/v1/jobs/{job_id}"
    return {"self": base, **{part: f"{base}/{part}" for part in LINKED}}


def _places(session: Session) -> dict[str, answers.QueuePlace]:
    waiting = queued(session)
    free = _why_nothing_starts(session)
    states = {row.name: row for row in session.scalars(select(Dataset))}
    return {
        job.job_id: answers.QueuePlace(
            position=index + 1, ahead=index, why=_why(job, index, states.get(job.dataset_name), free)
        )
        for index, job in enumerate(waiting)
    }


def _why(job: Waiting, ahead: int, dataset: Dataset | None, nothing_starts: str | None) -> str:
    if not job.has_data and dataset is not None and dataset.state is not DatasetState.READY:
        return f"The dataset {job.dataset_name} is being fetched; the job starts when it is there."
    if not job.is_due:
        return "It waits a little before the next try, after an attempt that was lost."
    if nothing_starts is not None:
        return nothing_starts
    return "It is next." if ahead == 0 else f"{ahead} {'job is' if ahead == 1 else 'jobs are'} ahead of it."


def _why_nothing_starts(session: Session) -> str | None:
    trainers = [worker for worker in workers.present(session) if worker.kind == workers.TRAIN]
    if not trainers:
        return "No train worker is there; jobs start when one comes."
    if not any(worker.ready for worker in trainers):
        return "The train worker is warming up (importing TensorFlow); that takes about 15 seconds."
    running = session.execute(
        select(Job.name, Job.epochs_done, Job.epochs).where(Job.state == JobState.RUNNING)
    ).all()
    slots = sum(worker.slots for worker in trainers)
    if len(running) < slots:
        return None
    if slots > 1:
        return f"All {slots} slots are busy."
    name, done, epochs = running[0]
    return f"The one slot is busy with {name} (epoch {done} of {epochs})."


def queue(session: Session, urls: Urls, limit: int = 200) -> answers.Queue:
    """Who runs, who waits, and for what."""
    running = session.scalars(select(Job).where(Job.state == JobState.RUNNING).order_by(Job.started_at)).all()
    order = [job.job_id for job in queued(session)]
    waiting = {row.id: row for row in session.scalars(select(Job).where(Job.id.in_(order[:limit])))}
    rows = [*running, *(waiting[id_] for id_ in order[:limit] if id_ in waiting)]
    present = present_workers(session)
    return answers.Queue(
        running=len(running),
        queued=len(order),
        slots=sum(worker.slots for worker in present if worker.kind == workers.TRAIN),
        why=_why_nothing_starts(session) if order else None,
        jobs=_jobs(session, rows[:limit], urls),
        workers=present,
    )


def present_workers(session: Session) -> list[answers.Worker]:
    """Workers seen lately, with what they do now."""
    busy = {
        name: count
        for name, count in session.execute(
            select(Attempt.worker, func.count()).where(Attempt.ended_at.is_(None)).group_by(Attempt.worker)
        )
    }
    return [
        answers.Worker(
            name=row.name,
            kind="train" if row.kind == workers.TRAIN else "housekeeping",
            host=row.host,
            slots=row.slots,
            busy=busy.get(row.name, 0),
            device=row.device,
            ready=row.ready,
            seen_at=moment(row.seen_at),
        )
        for row in workers.present(session)
    ]


def epochs(session: Session, job_id: str, from_epoch: int = 0) -> list[Epoch]:
    """The history's rows from one epoch on, in order."""
    query = select(Epoch).where(Epoch.job_id == job_id, Epoch.epoch >= from_epoch)
    return list(session.scalars(query.order_by(Epoch.epoch)))


def history(session: Session, job_id: str, from_epoch: int = 0) -> answers.History:
    """The history as Keras has it; raises NotFound."""
    row = find(session, job_id)
    found = epochs(session, job_id, from_epoch)
    provisional = row.epochs_covered if row.epochs_covered < row.epochs_done else None
    return answers.History(
        params={"verbose": 0, "epochs": row.epochs, "steps": _steps(session, row)},
        epoch=[epoch.epoch for epoch in found],
        history={name: [epoch.metrics.get(name) for epoch in found] for name in metric_names(found)},
        provisional_from=provisional,
    )


def _steps(session: Session, row: Job) -> int | None:
    if row.dataset_version is None:
        return None
    stored = session.get_one(DatasetVersion, row.dataset_version)
    return batches_per_epoch(TrainSpec.model_validate(row.spec), DatasetSchema.model_validate(stored.schema))


def metric_names(rows: Sequence[Epoch]) -> list[str]:
    """Metrics in the order in which Keras reports them: training first, then validation."""
    return sorted(dict.fromkeys(name for row in rows for name in row.metrics), key=_validation_last)


def _validation_last(name: str) -> bool:
    return name.startswith("val_")


def history_csv(rows: Sequence[Epoch]) -> str:
    """The history as CSV with a header; floats in the shortest form that reads back to the same bits."""
    names = metric_names(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *names, "learning_rate", "epoch_seconds"])
    for row in rows:
        values = [row.metrics.get(name) for name in names]
        writer.writerow([row.epoch, *values, row.learning_rate, row.seconds])
    return text.getvalue()


def attempts(session: Session, job_id: str) -> list[answers.Attempt]:
    """All attempts, oldest first; raises NotFound."""
    find(session, job_id)
    kept = {
        fence: count
        for fence, count in session.execute(
            select(Epoch.fence, func.count()).where(Epoch.job_id == job_id).group_by(Epoch.fence)
        )
    }
    rows = session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number))
    return [
        answers.Attempt(
            number=row.number,
            worker=row.worker,
            device=row.device,
            started_at=moment(row.started_at),
            ended_at=_moment_or_none(row.ended_at),
            reason=row.reason,
            detail=row.detail,
            first_epoch=row.first_epoch,
            epochs_kept=kept.get(row.fence, 0),
        )
        for row in rows
    ]


def evaluations(session: Session, job_id: str) -> list[answers.Evaluation]:
    """All evaluations without their outcomes, oldest first; raises NotFound."""
    find(session, job_id)
    wanted = _evaluations().where(Evaluation.job_id == job_id).order_by(Evaluation.id)
    rows = session.execute(wanted.options(defer(Evaluation.outcome)))
    return [_evaluation(row, before, None) for row, before in rows]


def evaluation(session: Session, job_id: str, evaluation_id: str) -> answers.Evaluation:
    """One evaluation of a job; raises NotFound."""
    found = session.execute(
        _evaluations().where(Evaluation.job_id == job_id, Evaluation.id == evaluation_id)
    ).one_or_none()
    if found is None:
        raise NotFound("evaluation", evaluation_id)
    return _evaluation(found[0], found[1], found[0].outcome)


def _evaluations() -> Select[Evaluation, int]:
    return select(Evaluation, Look.looks_before).outerjoin(Look, Look.subject_id == Evaluation.id)


def _evaluation(
    row: Evaluation, looks_before: int | None, outcome: dict[str, Any] | None
) -> answers.Evaluation:
    return answers.Evaluation(
        id=row.id,
        job=row.job_id,
        split=row.split,
        state=row.state,
        outcome=None if outcome is None else answers.Outcome.model_validate(outcome),
        metrics=None if row.metrics is None else _finite(row.metrics),
        rows=row.rows,
        detail=row.detail,
        reason=row.why,
        looks_before=looks_before,
        created_at=moment(row.created_at),
        finished_at=_moment_or_none(row.finished_at),
    )


def newest_checkpoint(session: Session, job_id: str) -> Checkpoint | None:
    """The checkpoint that covers most epochs."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    return session.scalars(query.order_by(Checkpoint.epoch.desc()).limit(1)).one_or_none()


def ledger(session: Session, name: str) -> list[answers.Look]:
    """All looks at a dataset's test split, oldest first."""
    rows = session.scalars(select(Look).where(Look.dataset_name == name).order_by(Look.id))
    return [
        answers.Look(
            job=row.job_id,
            subject="prediction" if row.subject == "prediction" else "evaluation",
            looked_at=moment(row.looked_at),
            who=row.owner_name,
            why=row.why,
            looks_before=row.looks_before,
        )
        for row in rows
    ]

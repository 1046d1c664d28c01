"""Makes a run in MLflow equal to a job in SQL. Every method can be cut off anywhere and called again."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Final

import yaml
from mlflow import MlflowClient
from mlflow.entities import (
    DatasetInput,
    LifecycleStage,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException

from services import export, results
from services.artifacts import job_folder
from services.errors import NotFound, TrainshedError
from services.export import Record
from services.models import Job
from services.pictures import learning_curves, picture_file
from services.settings import Settings
from services.shapes import summarize
from services.store import Store
from worker import mlflow_run
from worker.mlflow_model import MODEL_NAME, write_model_folder
from worker.mlflow_run import EXPERIMENT_PREFIX, JOB_TAG, Point

# OSError includes the errors of requests, ValueError those of answers that are not JSON.
FAILURES: Final = (MlflowException, OSError, ValueError, TrainshedError)

# One call takes 1000 items, 100 of them tags, or 100 params.
POINTS_A_CALL: Final = 900
PARAMS_A_CALL: Final = 100

# While a picture is drawn, live jobs have their turn after so many seconds.
DRAWING_PATIENCE: Final = 0.5


class CopyDiffers(TrainshedError):
    """MLflow does not hold what it was sent; the next try sends it again."""


class MlflowCopy:
    """The one writer of our runs. What it remembers of MLflow is a shortcut: `forget` makes it look again."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._root = settings.artifact_root
        self._public_url = settings.public_url
        self._client = MlflowClient(tracking_uri=settings.mlflow_url)
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._told: dict[str, dict[str, str]] = {}
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="picture")

    def forget(self, job_id: str) -> None:
        """Look for the job's run anew: somebody may have deleted it, or MLflow may have been emptied."""
        self._experiments.clear()
        self._runs.pop(job_id, None)
        self._told.pop(job_id, None)

    def follow(self, job_id: str) -> None:
        """Send the epochs that a checkpoint covers by now."""
        run_id = self._runs.get(job_id) or self._settle_run(job_id)
        record = self._read(job_id, unconfirmed_only=True)
        if record.job.mlflow_epochs > record.job.epochs_covered:
            # A checkpoint was lost with epochs that MLflow has: it cannot unlearn them.
            self._discard_run(job_id, run_id)
            return
        self._send_points(run_id, mlflow_run.epoch_points(record.epochs), self._new_tags(record))
        with self._store.writes.begin() as session:
            export.note_epochs(session, job_id, run_id, record.job.epochs_covered)

    def complete(self, job_id: str) -> Iterator[None]:
        """Send all of an ended job, chapter by chapter; it is synced once MLflow is found to hold it."""
        self.forget(job_id)
        run_id = self._settle_run(job_id)
        record = self._read(job_id)
        picture = self._drawing.submit(self._draw, record.job) if record.epochs else None
        yield
        self._send_missing_points(run_id, record)
        self._end_run(run_id, record.job)
        yield
        while picture is not None and not wait([picture], timeout=DRAWING_PATIENCE).done:
            yield
        self._send_files(run_id, record, picture.result() if picture else None)
        yield
        if record.job.model_sha256 is not None:
            self._send_model(run_id, record)
            yield
        self._compare(run_id, record)
        with self._store.writes.begin() as session:
            # False: an evaluation came meanwhile, and the job is still due.
            export.mark_synced(session, record)

    def remove(self, job_id: str) -> None:
        """Delete the runs and models of a job that SQL does not have any more, in whosever experiment."""
        ours = self._client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT_PREFIX}%'")
        if ids := [experiment.experiment_id for experiment in ours]:
            for model in self._client.search_logged_models(ids, _has_tag(job_id)):
                self._client.delete_logged_model(model.model_id)
            for run in self._client.search_runs(ids, _has_tag(job_id)):
                self._client.delete_run(run.info.run_id)
        self.forget(job_id)
        with self._store.writes.begin() as session:
            export.note_removed(session, job_id)

    def _read(self, job_id: str, *, unconfirmed_only: bool = False) -> Record:
        with self._store.reads() as session:
            return export.read(session, job_id, unconfirmed_only=unconfirmed_only)

    def _tags(self, record: Record) -> list[RunTag]:
        return mlflow_run.tags(record, self._public_url)

    def _new_tags(self, record: Record) -> list[RunTag]:
        """Those that the run lacks: MLflow spends more time on the tags of a call than on its points."""
        tags = {tag.key: tag.value for tag in self._tags(record)}
        told, self._told[record.job.id] = self._told.get(record.job.id, {}), tags
        return [RunTag(key, value) for key, value in tags.items() if told.get(key) != value]

    def _settle_run(self, job_id: str) -> str:
        """Find or make the job's only run, and describe it."""
        record = self._read(job_id, unconfirmed_only=True)
        experiment_id = self._experiment(record.owner)
        run_id = self._only_run(experiment_id, record) or self._new_run(experiment_id, record.job)
        with self._store.reads() as session:
            is_there = export.is_there(session, job_id)
        if not is_there:
            # Deleted meanwhile, and nobody would look for a run made after that.
            self._client.delete_run(run_id)
            raise NotFound("job", job_id)
        self._describe(run_id, record)
        with self._store.writes.begin() as session:
            export.note_run(session, job_id, experiment_id, run_id)
        self._runs[job_id] = run_id
        return run_id

    def _experiment(self, owner: str) -> str:
        if owner not in self._experiments:
            self._experiments[owner] = self._find_or_make_experiment(mlflow_run.experiment_name(owner))
        return self._experiments[owner]

    def _find_or_make_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # Made by another process meanwhile: an error here, and found by the next try.
            return self._client.create_experiment(name)
        if found.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _only_run(self, experiment_id: str, record: Record) -> str | None:
        """The oldest run with the job's tag; others go. A retried create may have made two."""
        found = list(self._client.search_runs([experiment_id], _has_tag(record.job.id)))
        found.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        kept = next((run for run in found if _agrees(run, record)), None)
        for run in found:
            if run is not kept:
                self._client.delete_run(run.info.run_id)
        return None if kept is None else str(kept.info.run_id)

    def _new_run(self, experiment_id: str, job: Job) -> str:
        run = self._client.create_run(
            experiment_id,
            start_time=job.started_at or job.created_at,
            tags={JOB_TAG: job.id},
            run_name=job.name,
        )
        return str(run.info.run_id)

    def _describe(self, run_id: str, record: Record) -> None:
        params = mlflow_run.params(record)
        self._client.log_batch(run_id, tags=self._tags(record))
        for start in range(0, len(params), PARAMS_A_CALL):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_A_CALL])
        if used := mlflow_run.inputs(record):
            self._client.log_inputs(run_id, used)

    def _discard_run(self, job_id: str, run_id: str) -> None:
        self._client.delete_run(run_id)
        self.forget(job_id)
        with self._store.writes.begin() as session:
            export.forget_run(session, job_id, run_id)

    def _send_points(self, run_id: str, points: Sequence[Point], tags: Sequence[RunTag] = ()) -> None:
        if tags and not points:
            self._client.log_batch(run_id, tags=tags)
        rest = iter(points)
        while batch := [point.metric() for point in islice(rest, POINTS_A_CALL)]:
            self._client.log_batch(run_id, metrics=batch, tags=tags)
            tags = ()

    def _send_missing_points(self, run_id: str, record: Record) -> None:
        expected = _points(record)
        held = self._held_points(self._client.get_run(run_id), expected)
        if held - expected:
            self._discard_run(record.job.id, run_id)
            raise CopyDiffers("The run held points that SQL does not have, and is made anew.")
        self._send_points(run_id, sorted(expected - held))

    def _held_points(self, run: Run, expected: set[Point]) -> set[Point]:
        """What the run has under our names; metrics that people have added are theirs."""
        return {
            Point(key, metric.step, metric.timestamp, metric.value)
            for key in {point.key for point in expected} & run.data.metrics.keys()
            for metric in self._client.get_metric_history(run.info.run_id, key)
        }

    def _end_run(self, run_id: str, job: Job) -> None:
        self._client.set_terminated(run_id, mlflow_run.STATUS[job.state], end_time=job.finished_at)

    def _draw(self, job: Job) -> Path:
        with self._store.reads() as session:
            history = results.history(session, job.id)
        return picture_file(job_folder(self._root, job.id), learning_curves(job.name, history), "png")

    def _send_files(self, run_id: str, record: Record, picture: Path | None) -> None:
        with tempfile.TemporaryDirectory(prefix="trainshed-export-") as name:
            _write_files(Path(name), record)
            if picture is not None:
                (Path(name) / "learning_curves.png").symlink_to(picture)
            self._client.log_artifacts(run_id, name)

    def _send_model(self, run_id: str, record: Record) -> None:
        """The run's one model, found by the job's tag: a retried create may have made two."""
        run = self._client.get_run(run_id)
        model = self._only_model(run, record.job.id) or self._client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, run_id, tags={JOB_TAG: record.job.id}
        )
        if model.status != LoggedModelStatus.READY:
            self._upload_model(run_id, record, model.model_id)
        if all(output.model_id != model.model_id for output in _outputs(run)):
            self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _only_model(self, run: Run, job_id: str) -> LoggedModel | None:
        found = list(self._client.search_logged_models([run.info.experiment_id], _has_tag(job_id)))
        found.sort(key=lambda model: (model.creation_timestamp, model.model_id))
        kept = next((model for model in found if model.source_run_id == run.info.run_id), None)
        for model in found:
            if model is not kept:
                self._client.delete_logged_model(model.model_id)
        return kept

    def _upload_model(self, run_id: str, record: Record, model_id: str) -> None:
        with tempfile.TemporaryDirectory(prefix="trainshed-export-") as name:
            write_model_folder(Path(name), job_folder(self._root, record.job.id), record, run_id, model_id)
            self._client.log_model_artifacts(model_id, name)
        self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def _compare(self, run_id: str, record: Record) -> None:
        """Read the whole run back; raises CopyDiffers that names what is not as in SQL."""
        run = self._client.get_run(run_id)
        differences = [name for name, is_equal in self._comparisons(run, record) if not is_equal]
        if differences:
            raise CopyDiffers(f"MLflow's run differs from SQL in {', '.join(differences)}.")

    def _comparisons(self, run: Run, record: Record) -> Iterator[tuple[str, bool]]:
        expected = _points(record)
        job = record.job
        yield "status", run.info.status == mlflow_run.STATUS[job.state]
        yield "end time", run.info.end_time == job.finished_at
        yield "params", all(run.data.params.get(p.key) == p.value for p in mlflow_run.params(record))
        yield "tags", all(run.data.tags.get(tag.key) == tag.value for tag in self._tags(record))
        yield "metrics", self._held_points(run, expected) == expected
        yield "datasets", _names(mlflow_run.inputs(record)) <= _names(_inputs(run))
        if job.model_sha256 is not None:
            yield "its model", self._has_its_model(run, job.id)

    def _has_its_model(self, run: Run, job_id: str) -> bool:
        found = self._client.search_logged_models([run.info.experiment_id], _has_tag(job_id))
        linked = {output.model_id for output in _outputs(run)}
        return [model.status for model in found if model.model_id in linked] == [LoggedModelStatus.READY]


def _has_tag(job_id: str) -> str:
    return f"tags.`{JOB_TAG}` = '{job_id}'"


def _points(record: Record) -> set[Point]:
    return {*mlflow_run.epoch_points(record.epochs), *mlflow_run.closing_points(record)}


def _agrees(run: Run, record: Record) -> bool:
    """Whether the run can become the job's: MLflow refuses changed params."""
    return all(run.data.params.get(p.key, p.value) == p.value for p in mlflow_run.params(record))


def _inputs(run: Run) -> list[DatasetInput]:
    return [] if run.inputs is None else list(run.inputs.dataset_inputs)


def _names(inputs: Iterable[DatasetInput]) -> set[tuple[str, str]]:
    return {(used.dataset.name, used.dataset.digest) for used in inputs}


def _write_files(folder: Path, record: Record) -> None:
    spec = yaml.safe_dump(record.job.spec, sort_keys=False, allow_unicode=True)
    (folder / "spec.yaml").write_text(spec)
    if record.schema is not None:
        (folder / "model_summary.txt").write_text(summarize(record.spec, record.schema).text)
    if record.epochs:
        (folder / "history.csv").write_text(results.history_csv(record.epochs))


def _outputs(run: Run) -> list[LoggedModelOutput]:
    return [] if run.outputs is None else list(run.outputs.model_outputs)

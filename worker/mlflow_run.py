"""A job in MLflow's words: params, tags, points, inputs, status. Nothing here speaks to a server."""

import json
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from services.export import Record
from services.models import Epoch, Evaluation
from services.schema import DatasetSchema
from services.states import JobState, Split

JOB_TAG: Final = "trainshed.job_id"

# mlflow.utils.validation: the server refuses longer ones.
KEY_LENGTH: Final = 250
PARAM_LENGTH: Final = 6000
DIGEST_LENGTH: Final = 32

STATUS: Final = {
    JobState.QUEUED: "RUNNING",  # claimed once, and will be again
    JobState.RUNNING: "RUNNING",
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}
EXPERIMENT_PREFIX: Final = "trainshed/"
EVALUATION_PREFIX: Final = {Split.TEST: "test_", Split.VALIDATION: "eval_val_", Split.TRAIN: "eval_train_"}


class Point(NamedTuple):
    """One value of one metric; `timestamp` in milliseconds."""

    key: str
    step: int
    timestamp: int
    value: float

    def metric(self) -> Metric:
        """The same as MLflow's entity."""
        return Metric(self.key, self.value, self.timestamp, self.step)


def experiment_name(owner: str) -> str:
    """Each person has one experiment."""
    return f"{EXPERIMENT_PREFIX}{owner}"


def params(record: Record) -> list[Param]:
    """Every leaf of the resolved spec by its path, and the usual ones as MLflow's autologging names them."""
    usual = _as_autologging_names_them(record.spec.model_dump(mode="json"))
    named = [*leaves(record.job.spec), *usual, ("params_count", record.job.params_count)]
    found: dict[str, Param] = {}
    for path, value in named:
        key = _unused_key(path, found)
        found[key] = Param(key, _text(value))
    return list(found.values())


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What a document holds, each with its path such as `model.layers.0.units`; an empty list is a leaf."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _as_autologging_names_them(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    fit, optimizer = spec["fit"], spec["compile"]["optimizer"]
    yield from ((key, fit[key]) for key in ("epochs", "batch_size", "shuffle", "class_weight"))
    yield "loss", spec["compile"]["loss"]["type"]
    # The name of the Keras object: its class in lower case, but for SGD.
    yield "optimizer_name", optimizer["type"] if optimizer["type"] == "SGD" else optimizer["type"].lower()
    yield from ((f"optimizer_{key}", value) for key, value in optimizer.items() if key != "type")
    stopping = fit["early_stopping"] or {}
    names = ("monitor", "min_delta", "patience", "baseline", "restore_best_weights")
    yield from ((key, stopping[key]) for key in names if key in stopping)


def _unused_key(path: str, taken: dict[str, Param]) -> str:
    """A key that MLflow accepts: class names and labels may hold what it refuses."""
    key = re.sub(r"[^\w.\- :/]", "_", path)[: KEY_LENGTH - 10]
    if posixpath.normpath(key) != key:
        key = key.replace("/", "_")
    while key in taken:
        key += "_"
    return key


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= PARAM_LENGTH else f"{text[: PARAM_LENGTH - 1]}…"


def tags(record: Record, public_url: str | None) -> list[RunTag]:
    """Who, what, where, and one sentence for people; the name is given when the run is made."""
    job = record.job
    found: dict[str, Any] = {
        JOB_TAG: job.id,
        "trainshed.attempt": job.attempts,
        "trainshed.owner": record.owner,
        "trainshed.spec_sha256": job.spec_sha256,
        "trainshed.dataset": f"{job.dataset_name}@{job.dataset_version}",
        "trainshed.device": record.device,
        "trainshed.engine": job.engine,
        "trainshed.engine_why": job.engine_why,
        "trainshed.reason": job.reason,
        "trainshed.parent": job.parent_id,
        "trainshed.relation": job.relation,
        **{f"trainshed.{name}": value for name, value in job.environment.items()},
        MLFLOW_USER: record.owner,
        MLFLOW_SOURCE_NAME: f"{public_url.rstrip('/')}/v1/jobs/{job.id}" if public_url else "trainshed",
        MLFLOW_SOURCE_TYPE: "JOB",
        MLFLOW_RUN_NOTE: note(record) if job.note is None else f"{note(record)}\n\n{job.note}",
    }
    return [RunTag(key, str(value)) for key, value in found.items() if value is not None]


def note(record: Record) -> str:
    """One sentence about the job."""
    job = record.job
    layers = ", ".join(layer.type for layer in record.spec.model.layers)
    what = f"{record.owner}'s model ({layers}; {job.params_count:,} parameters) on {job.dataset_name}"
    if not job.state.is_terminal:
        return f"{what} is being trained for up to {job.epochs} epochs."
    best = (
        f", best {job.best['metric']} {job.best['value']:.4g} in epoch {job.best['epoch']}"
        if job.best
        else ""
    )
    why = f" ({job.reason})" if job.reason else ""
    return f"{what} {job.state}{why} after {job.epochs_done} of {job.epochs} epochs{best}."


def epoch_points(epochs: Iterable[Epoch]) -> list[Point]:
    """All metrics of these epochs; the stored time is part of MLflow's key, so a replay adds nothing."""
    return [
        Point(key, epoch.epoch, epoch.ended_at, value)
        for epoch in epochs
        for key, value in _finite(_of_epoch(epoch))
    ]


def _of_epoch(epoch: Epoch) -> Iterator[tuple[str, float | None]]:
    yield from epoch.metrics.items()
    yield "learning_rate", epoch.learning_rate
    yield "epoch_seconds", epoch.seconds
    yield "examples_per_second", epoch.examples / epoch.seconds if epoch.seconds > 0 else None


def _finite(named: Iterable[tuple[str, float | None]]) -> Iterator[tuple[str, float]]:
    return ((key, float(value)) for key, value in named if value is not None and math.isfinite(value))


def closing_points(record: Record) -> list[Point]:
    """What is known once the job has ended, and what evaluations have found since."""
    job = record.job
    once = {
        "params_count": job.params_count,
        "train_seconds": math.fsum(e.seconds for e in record.epochs if e.epoch >= job.epochs_inherited),
        "queue_seconds": None if job.started_at is None else (job.started_at - job.created_at) / 1000,
        "best_epoch": None if job.best is None else job.best["epoch"],
    }
    at_end = [Point(key, 0, job.finished_at or 0, value) for key, value in _finite(once.items())]
    return at_end + [point for evaluation in record.evaluations for point in _evaluation_points(evaluation)]


def _evaluation_points(evaluation: Evaluation) -> list[Point]:
    prefix = EVALUATION_PREFIX[evaluation.split]
    found = _finite((evaluation.metrics or {}).items())
    return [Point(f"{prefix}{key}", 0, evaluation.finished_at or 0, value) for key, value in found]


def inputs(record: Record) -> list[DatasetInput]:
    """The splits that were used: the test split only if an evaluation has looked at it."""
    if record.schema is None:
        return []
    return [_input(record, record.schema, split) for split in _used_splits(record)]


def _used_splits(record: Record) -> Sequence[Split]:
    used = [Split.TRAIN]
    if record.spec.split.validation is not None:
        used.append(Split.VALIDATION)
    if any(evaluation.split is Split.TEST for evaluation in record.evaluations):
        used.append(Split.TEST)
    return used


def _input(record: Record, schema: DatasetSchema, split: Split) -> DatasetInput:
    version = record.job.dataset_version or ""
    dataset = Dataset(
        # MLflow takes two datasets of one name and digest for one, and keeps the first.
        name=f"{record.job.dataset_name}/{split}",
        digest=version[:DIGEST_LENGTH],
        source_type="trainshed",
        source=json.dumps({"name": record.job.dataset_name, "version": version, "split": split}),
        schema=_tensor_schema(schema),
        profile=json.dumps(schema.model_dump(mode="json")),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, split)])


def _tensor_schema(schema: DatasetSchema) -> str:
    """As MLflow's own TensorDatasetSchema, which its pages can show."""
    features = _tensor(schema.features.shape, schema.features.dtype)
    targets = _tensor(schema.target.shape, schema.target.dtype)
    return json.dumps({"mlflow_tensorspec": {"features": features, "targets": targets}})


def _tensor(shape: tuple[int, ...], dtype: str) -> str:
    return Schema([TensorSpec(np.dtype(dtype), (-1, *shape))]).to_json()

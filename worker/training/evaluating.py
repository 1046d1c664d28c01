"""The splits of a job on the device, and a model's metrics on one of them."""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.states import Split
from worker.events import DatasetPlace, EvaluateOrder, Finished, Metrics, SplitMetrics, Stopped
from worker.training.building import make_metrics, seed_of
from worker.training.checkpoints import sha256_of
from worker.training.data import RowIds, class_weights_of, cut, open_sealed, open_unsealed
from worker.training.device import Place
from worker.training.engine import Engine, LoopEngine, OnDevice, Part, choose_engine, put_on_device
from worker.training.problems import BadSpec, DamagedModel

StopWanted = Callable[[], bool]


class Splits:
    """A job's data: the unsealed rows in one table, cut by row ids; the test split only when it is named."""

    def __init__(self, dataset: DatasetPlace, spec: TrainSpec) -> None:
        self.schema = DatasetSchema.model_validate(dataset.schema_)
        self._folder = Path(dataset.path)
        self._spec = spec
        self.unsealed = open_unsealed(self._folder, self.schema)
        self.cut = cut(self.unsealed, spec.split, seed_of(spec))

    @cached_property
    def table(self) -> OnDevice:
        """The unsealed rows on the device, with the class weights of the spec."""
        weights = self._spec.fit.class_weights(self.schema.target.class_names or ())
        return put_on_device(
            self.unsealed, None if weights is None else class_weights_of(self.unsealed.y, weights)
        )

    @property
    def training_steps(self) -> int:
        """Batches of the whole job."""
        fit = self._spec.fit
        return fit.epochs * math.ceil(len(self.cut.train) / fit.batch_size)

    def of(self, split: Split) -> tuple[OnDevice, RowIds]:
        """A table and the rows of it that are the split. Raises BadSpec if there are none."""
        if split is Split.TEST:
            table = put_on_device(open_sealed(self._folder, self.schema))
            rows = np.arange(self.schema.rows.test)
        else:
            table = self.table
            rows = self.cut.train if split is Split.TRAIN else self.cut.validation
        if not len(rows):
            raise BadSpec(f"There are no {split} rows to evaluate on.")
        return table, rows


def evaluate_split(
    split: Split, splits: Splits, engine: Engine, stop_wanted: StopWanted
) -> SplitMetrics | None:
    """Metrics of the engine's model on one split; None if a stop was asked for."""
    table, rows = splits.of(split)
    metrics = _last_metrics(engine.evaluate(table, rows), stop_wanted)
    return None if metrics is None else SplitMetrics(split, metrics, len(rows))


def _last_metrics(parts: Iterator[Part], stop_wanted: StopWanted) -> Metrics | None:
    metrics: Metrics | None = None
    for part in parts:
        if stop_wanted():
            return None
        metrics = part.metrics
    return metrics


def evaluate_model(order: EvaluateOrder, place: Place, stop_wanted: StopWanted) -> Finished | Stopped:
    """Carry out an evaluate order: the stored model, the job's data, the engine that trained it."""
    spec = TrainSpec.model_validate(order.spec)
    if sha256_of(Path(order.model.path)) != order.model.sha256:
        raise DamagedModel(order.model.path)
    splits = Splits(order.dataset, spec)
    model = keras.saving.load_model(order.model.path, safe_mode=True)
    make_metrics(model, splits.schema)
    name = choose_engine(model, splits.training_steps, is_gpu=place.is_gpu)
    engine = LoopEngine(model, spec.fit.batch_size, name)
    evaluation = evaluate_split(order.split, splits, engine, stop_wanted)
    return Stopped(spec.fit.epochs) if evaluation is None else Finished([evaluation], engine=name)

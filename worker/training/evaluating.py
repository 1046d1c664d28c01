"""The splits of a job on the device, and a model's metrics on one of them."""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from services.outputs import Outputs, outputs_of
from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.states import Split
from worker.events import (
    DatasetPlace,
    Device,
    EvaluateOrder,
    Finished,
    SplitMetrics,
    Stopped,
    TargetScaling,
)
from worker.training.building import make_metrics, seed_of
from worker.training.data import Array, RowIds, Table, Watched, cut, open_sealed, open_unsealed, weights_of
from worker.training.engine import Engine, Part, make_engine
from worker.training.feeding import Feed, feed
from worker.training.finishing import load_model
from worker.training.listener import StopAsked
from worker.training.outcomes import outcome_of
from worker.training.problems import BadSpec
from worker.training.scaling import measure, scaled

StopWanted = Callable[[], bool]
# Rows of one eager call: tracing a program for so few calls would not pay.
ROWS_AT_ONCE = 4096


class Splits:
    """A job's data: the unsealed rows in one table, cut by row ids; the test split only when it is named."""

    def __init__(
        self,
        dataset: DatasetPlace,
        spec: TrainSpec,
        *,
        scaling: TargetScaling | None = None,
        device: Device | None = None,
    ) -> None:
        self.schema = DatasetSchema.model_validate(dataset.schema_)
        self._folder = Path(dataset.path)
        self._spec = spec
        self._files = Watched(self._folder / "train")
        self.unsealed = open_unsealed(self._folder, self.schema)
        self.cut = cut(self.unsealed, spec.split, seed_of(spec))
        self._known_scaling = scaling
        data_mb = None if device is None else device.data_mb
        self._budget = None if data_mb is None else data_mb << 20

    @cached_property
    def scaling(self) -> TargetScaling | None:
        """How targets are scaled for the model; what was measured before holds."""
        if self._known_scaling is not None:
            return self._known_scaling
        return measure(self._spec.preprocessing.target_scaling, self.unsealed.y[self.cut.train])

    @cached_property
    def feed(self) -> Feed:
        """The unsealed rows, with the dataset's weights times the spec's class weights."""
        by_class = self._spec.fit.class_weights(self.schema.target.class_names or ())
        return self._fed(self.unsealed, weights_of(self.unsealed, by_class))

    def check_files(self) -> None:
        """Raises BadData if the files of the unsealed rows are no longer those that were opened."""
        self._files.check()

    @property
    def outputs(self) -> Outputs:
        """How the model's outputs are read."""
        return outputs_of(self._spec, self.schema)

    @property
    def steps_an_epoch(self) -> int:
        """Batches in which the training rows are seen once."""
        return math.ceil(len(self.cut.train) / self._spec.fit.batch_size)

    @cached_property
    def sealed(self) -> Table:
        """The test split."""
        return open_sealed(self._folder, self.schema)

    def _fed(self, table: Table, weights: Array | None = None) -> Feed:
        return feed(Table(table.x, scaled(table.y, self.scaling)), weights, budget=self._budget)

    def truth(self, split: Split) -> Array:
        """The stored targets of the table that the split's rows are in."""
        return self.sealed.y if split is Split.TEST else self.unsealed.y

    def of(self, split: Split) -> tuple[Feed, RowIds]:
        """A feed and the rows of it that are the split. Raises BadSpec if there are none."""
        if split is Split.TEST:
            found = self._fed(self.sealed)
            rows = np.arange(self.schema.rows.test)
        else:
            found = self.feed
            rows = self.cut.train if split is Split.TRAIN else self.cut.validation
        if not len(rows):
            raise BadSpec(f"There are no {split} rows to evaluate on.")
        return found, rows


def evaluate_split(
    split: Split, splits: Splits, model: Any, engine: Engine, stop_wanted: StopWanted
) -> SplitMetrics:
    """Metrics and outcome of the engine's model on one split. Raises StopAsked."""
    found, rows = splits.of(split)

    def watch(_: Part) -> None:
        if stop_wanted():
            raise StopAsked

    metrics = engine.evaluate(found, rows, watch)
    outcome = outcome_of(
        splits.outputs, lambda ids: _raw_outputs(model, found, ids), splits.truth(split), rows, splits.scaling
    )
    return SplitMetrics(split, metrics, len(rows), outcome)


def _raw_outputs(model: Any, found: Feed, rows: RowIds) -> Array:
    batches = found.unweighted.batches(rows, ROWS_AT_ONCE)
    return np.concatenate([model(batch[0], training=False).numpy() for batch in batches])


def evaluate_model(order: EvaluateOrder, stop_wanted: StopWanted) -> Finished | Stopped:
    """Carry out an evaluate order: the stored model on the job's data, as the job itself evaluates."""
    spec = TrainSpec.model_validate(order.spec)
    splits = Splits(order.dataset, spec, scaling=order.target_scaling, device=order.device)
    model = load_model(order.model, is_compiled=True)
    make_metrics(model, splits.schema)
    name = "keras" if spec.fit.engine == "keras" else "graph"
    engine = make_engine(name, model, spec.fit.batch_size)
    try:
        evaluation = evaluate_split(order.split, splits, model, engine, stop_wanted)
    except StopAsked:
        return Stopped(spec.fit.epochs)
    return Finished([evaluation], engine=engine.name)

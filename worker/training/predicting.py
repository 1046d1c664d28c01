"""A finished model that answers requests: a predict order."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from services.outputs import outputs_of
from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.states import Split
from worker.encoding import RowsInvalid, encode_rows, unknown_categories
from worker.events import Predicted, PredictOrder, PredictRequest, Ready, Stopped
from worker.training.data import Array, RowIds, open_sealed
from worker.training.evaluating import Splits
from worker.training.finishing import load_model
from worker.training.listener import Listener
from worker.training.problems import BadData, TrainingProblem
from worker.training.readout import Readout

ROWS_AT_ONCE = 4096


def serve(order: PredictOrder, listener: Listener, ready: Ready) -> Stopped:
    """Load the model, say so, and answer one request after the other."""
    model = Model(order)
    model.warm_up()
    listener.send(ready)
    while (request := listener.next_request()) is not None:
        listener.send(model.answer(request))
    return Stopped(0)


class Model:
    """A loaded model and what is known of its job."""

    def __init__(self, order: PredictOrder) -> None:
        self._order = order
        self._spec = TrainSpec.model_validate(order.spec)
        self._schema = DatasetSchema.model_validate(order.dataset.schema_)
        self._outputs = outputs_of(self._spec, self._schema)
        self._forward = _traced(load_model(order.model, is_compiled=False), self._schema)

    def warm_up(self) -> None:
        """Trace the model now, so that the first request need not wait for it."""
        features = self._schema.features
        self._raw(np.zeros((1, *features.shape), features.dtype))

    def answer(self, request: PredictRequest) -> Predicted:
        """What the model says of the request's rows, or what is wrong with them."""
        try:
            inputs, rows = self._inputs(request)
            raw = np.concatenate([self._raw(batch) for batch in _batches(inputs, rows)])
        except RowsInvalid as error:
            found = [problem.model_dump(mode="json") for problem in error.problems]
            return Predicted(request.number, problems=found)
        except (TrainingProblem, tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
            return Predicted(request.number, why=str(error))
        read = Readout(self._outputs, raw, self._order.target_scaling)
        noticed = [] if request.split is not None else unknown_categories(self._schema, inputs)
        return Predicted(
            request.number,
            rows=read.rows(request.top_k, request.thresholds),
            warnings=[warning.model_dump(mode="json") for warning in noticed],
        )

    def _raw(self, inputs: Array) -> Array:
        return self._forward(tf.constant(inputs)).numpy()

    def _inputs(self, request: PredictRequest) -> tuple[Array, RowIds]:
        if request.split is not None:
            return self._of_split(request.split, request.rows)
        if request.inputs is not None:
            inputs: Array = np.load(request.inputs, mmap_mode="r", allow_pickle=False)
        else:
            inputs = encode_rows(self._schema, request.instances or [])
        return inputs, np.arange(len(inputs))

    def _of_split(self, split: Split, positions: list[int] | None) -> tuple[Array, RowIds]:
        if split is Split.TEST:
            # Opened for this request only: each look is in the ledger.
            x = open_sealed(Path(self._order.dataset.path), self._schema).x
            rows: RowIds = np.arange(len(x))
        else:
            x, cut = self._splits.unsealed.x, self._splits.cut
            rows = cut.train if split is Split.TRAIN else cut.validation
        if positions is not None and max(positions) >= len(rows):
            raise BadData(f"The {split} split has {len(rows):,} rows; there is no row {max(positions)}.")
        return x, rows if positions is None else rows[np.array(positions)]

    @cached_property
    def _splits(self) -> Splits:
        return Splits(self._order.dataset, self._spec, scaling=self._order.target_scaling)


def _batches(inputs: Array, rows: RowIds) -> Iterator[Array]:
    for first in range(0, len(rows), ROWS_AT_ONCE):
        yield _storable(inputs[rows[first : first + ROWS_AT_ONCE]])


def _storable(inputs: Array) -> Array:
    """As the tables are put on a device: whole numbers keep their type, other floats become float32."""
    return np.asarray(inputs, np.float32 if inputs.dtype.kind == "f" else None)


def _traced(model: Any, schema: DatasetSchema) -> Any:
    # An open batch size: one trace serves every request.
    dtype = "float32" if np.dtype(schema.features.dtype).kind == "f" else schema.features.dtype
    taken = tf.TensorSpec([None, *schema.features.shape], dtype)
    return tf.function(lambda x: model(x, training=False), input_signature=[taken], autograph=False)

"""The loop over batches. A faster engine can stand here: it has to offer what `Engine` asks for."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from worker.events import Metrics
from worker.training.data import Array, RowIds, Table
from worker.training.seeds import seed_generators_of

CHUNK_SECONDS = 0.4
"""How long one call to the device should take: a stop waits for at most one call."""
FASTEST_GROWTH = 16
"""A call holds at most this many times the steps of the call before it."""
STEPS_THAT_PAY_FOR_XLA = 100
"""Steps an epoch. XLA compiles for 1-2 s and then saves 0.2-2 ms a step (2 cores, batch 32, small MLPs): it
pays within 10 to 40 epochs. Their number must not decide: 30 epochs and 30 more would not equal 60."""


@dataclass(frozen=True)
class OnDevice:
    """A table as tensors on the device; whole numbers keep their type, other floats become float32."""

    x: Any
    y: Any
    weights: Any = None
    """One float32 a row, or None."""

    @property
    def columns(self) -> tuple[Any, ...]:
        """What a training step takes."""
        return (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights)


@dataclass(frozen=True)
class Part:
    """A stretch of batches that is done: the share of the rows so far, and the running metrics over them."""

    share: float
    metrics: Metrics


class Engine(Protocol):
    """Runs a model's own train_step and test_step over rows, in the order given, the last smaller batch too.

    Both methods reset the metrics, yield at least twice a second, and may be abandoned between two parts. The
    last part holds the metrics over all rows.
    """

    name: str

    def train(self, table: OnDevice, order: RowIds) -> Iterator[Part]:
        """One epoch."""
        ...

    def evaluate(self, table: OnDevice, rows: RowIds) -> Iterator[Part]:
        """Metrics without training; row weights are not used."""
        ...


def put_on_device(table: Table, weights: Array | None = None) -> OnDevice:
    """Copy a table to the device."""
    return OnDevice(_tensor(table.x), _tensor(table.y), None if weights is None else _tensor(weights))


def _tensor(array: Array) -> Any:
    return tf.convert_to_tensor(array, dtype="float32" if array.dtype.kind == "f" else None)


def choose_engine(model: Any, steps_an_epoch: int, *, is_gpu: bool) -> str:
    """`xla` where compiling pays, else `graph`.

    Random layers on a CPU stay with `graph`: XLA draws their numbers about as slowly as stock Keras runs.
    """
    is_slow_under_xla = bool(seed_generators_of(model)) and not is_gpu
    return "graph" if steps_an_epoch < STEPS_THAT_PAY_FOR_XLA or is_slow_under_xla else "xla"


class LoopEngine:
    """Many batches in one device program: a loop over rows of a matrix of row ids."""

    def __init__(self, model: Any, batch_size: int, name: str) -> None:
        self.name = name
        self._model = model
        self._batch_size = batch_size
        self._train = _Loop(model, model.train_step, name)
        self._test = _Loop(model, model.test_step, name)

    def train(self, table: OnDevice, order: RowIds) -> Iterator[Part]:
        """One epoch."""
        return self._run(self._train, table.columns, order)

    def evaluate(self, table: OnDevice, rows: RowIds) -> Iterator[Part]:
        """Metrics without training."""
        return self._run(self._test, (table.x, table.y), rows)

    def _run(self, loop: "_Loop", columns: tuple[Any, ...], rows: RowIds) -> Iterator[Part]:
        self._model.reset_metrics()
        whole = len(rows) // self._batch_size * self._batch_size
        for steps, metrics in loop.over(columns, rows[:whole].reshape(-1, self._batch_size)):
            yield Part(steps * self._batch_size / len(rows), metrics)
        if whole < len(rows):
            yield Part(1.0, loop.last(columns, rows[whole:]))


class _Loop:
    """One step function, looped; remembers how many steps fill a chunk."""

    def __init__(self, model: Any, step: Any, name: str) -> None:
        self._program = _program(model, step)
        self._is_compiled = name == "xla"
        self._functions: dict[bool, Any] = {}
        self._chunk = 0

    def over(self, columns: tuple[Any, ...], batches: RowIds) -> Iterator[tuple[int, Metrics]]:
        """Steps done and metrics after each chunk."""
        matrix = tf.constant(batches, tf.int32)
        function = self._function(columns, self._is_compiled)
        done = 0
        while done < len(batches):
            end = min(done + max(self._chunk, 1), len(batches))
            began = time.perf_counter()
            metrics = _floats(function(columns, matrix, tf.constant(done), tf.constant(end)))
            self._learn(end - done, time.perf_counter() - began)
            done = end
            yield done, metrics

    def last(self, columns: tuple[Any, ...], batch: RowIds) -> Metrics:
        """One smaller batch. It comes once an epoch: compiling it for its own shape would not pay."""
        matrix = tf.constant(batch[np.newaxis], tf.int32)
        function = self._function(columns, is_compiled=False)
        return _floats(function(columns, matrix, tf.constant(0), tf.constant(1)))

    def _function(self, columns: tuple[Any, ...], is_compiled: bool) -> Any:
        if is_compiled not in self._functions:
            # Open shapes: one trace serves whole batches, the smaller one, and every split.
            rows = tuple(tf.TensorSpec([None, *column.shape[1:]], column.dtype) for column in columns)
            ids, index = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)
            self._functions[is_compiled] = tf.function(
                self._program,
                input_signature=[rows, ids, index, index],
                autograph=False,
                jit_compile=is_compiled,
            )
        return self._functions[is_compiled]

    def _learn(self, steps: int, seconds: float) -> None:
        # The first call traces and compiles: its time says nothing about a step.
        if self._chunk == 0:
            self._chunk = FASTEST_GROWTH
            return
        fitting = int(steps * CHUNK_SECONDS / seconds)
        self._chunk = max(1, min(fitting, FASTEST_GROWTH * self._chunk))


def _program(model: Any, step: Any) -> Any:
    def run(columns: tuple[Any, ...], batches: Any, first: Any, end: Any) -> dict[str, Any]:
        def body(index: Any) -> list[Any]:
            step(tuple(tf.gather(column, batches[index]) for column in columns))
            return [index + 1]

        # One iteration at a time: two steps at once would race for the weights.
        tf.while_loop(lambda index: index < end, body, [first], parallel_iterations=1)
        return model.get_metrics_result()

    return run


def _floats(metrics: dict[str, Any]) -> Metrics:
    # Sorted, as the logs of Keras's fit are.
    return {name: float(metrics[name]) for name in sorted(metrics)}

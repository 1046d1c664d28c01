"""The loop over batches: many of them in one device program, or Keras's own fit."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from services.spec import EngineName
from worker.events import Metrics
from worker.training.building import set_weights, weights_of
from worker.training.data import RowIds
from worker.training.feeding import Feed
from worker.training.seeds import seed_generators_of

CHUNK_SECONDS = 0.4
"""How long one call to the device should take: a stop waits for at most one call."""
FASTEST_GROWTH = 16
"""A call holds at most this many times the steps of the call before it."""
STEPS_THAT_PAY_FOR_XLA = 100
"""Steps an epoch. XLA compiles for 1-2 s and then saves 0.2-2 ms a step (2 cores, batch 32, small MLPs): it
pays within 10 to 40 epochs. Their number must not decide: 30 epochs and 30 more would not equal 60."""
ROWS_TO_EVALUATE = 1024
"""Metrics over all rows depend on the cut into batches in their rounding only; large batches cost less."""


@dataclass(frozen=True)
class Part:
    """A stretch of batches that is done: the share of the rows so far, and the running metrics over them."""

    share: float
    metrics: Metrics


Watch = Callable[[Part], None]
"""Called at least twice a second, and after the last part. What it raises ends the run."""


class Engine(Protocol):
    """Runs a model's own train_step and test_step over rows, in the order given, a last smaller batch too."""

    name: str

    @property
    def starting_seconds(self) -> float:
        """What first calls took so far: tracing, compiling and the few steps of those calls."""
        ...

    def train(self, feed: Feed, order: RowIds, watch: Watch) -> Metrics:
        """One epoch: its running metrics, as Keras's fit reports them."""
        ...

    def evaluate(self, feed: Feed, rows: RowIds, watch: Watch) -> Metrics:
        """Metrics over rows without training; row weights are not used."""
        ...


@dataclass(frozen=True)
class Choice:
    """An engine, and a sentence that says why it was taken."""

    name: str
    why: str


def choose_engine(wanted: EngineName, model: Any, steps_an_epoch: int, *, is_gpu: bool) -> Choice:
    """What the spec asks for; for `auto`, `xla` where compiling pays, else `graph`."""
    if wanted != "auto":
        return Choice(wanted, "The spec asks for it.")
    if seed_generators_of(model) and not is_gpu:
        return Choice("graph", "On a CPU, XLA draws the random numbers of the model's random layers slowly.")
    steps = f"An epoch has {steps_an_epoch:,} step{'' if steps_an_epoch == 1 else 's'}"
    if steps_an_epoch < STEPS_THAT_PAY_FOR_XLA:
        return Choice("graph", f"{steps}: compiling pays from {STEPS_THAT_PAY_FOR_XLA} on.")
    return Choice("xla", f"{steps}: from {STEPS_THAT_PAY_FOR_XLA} on, compiling pays.")


def make_engine(name: str, model: Any, batch_size: int) -> Engine:
    """The engine of this name."""
    return KerasEngine(model, batch_size) if name == "keras" else LoopEngine(model, batch_size, name)


class LoopEngine:
    """Many batches in one device program: a loop over rows of a matrix of row ids.

    `xla` compiles the loop over whole batches. The last smaller batch and evaluations come once an epoch:
    compiling them would not pay, so both engines run them as a TensorFlow graph.
    """

    def __init__(self, model: Any, batch_size: int, name: str) -> None:
        self.name = name
        self._model = model
        self._batch_size = batch_size
        self._train = _Loop(model, model.train_step, is_compiled=name == "xla")
        self._train_last = _Loop(model, model.train_step, is_compiled=False) if name == "xla" else self._train
        self._test = _Loop(model, model.test_step, is_compiled=False)

    @property
    def starting_seconds(self) -> float:
        """What first calls took."""
        return sum(loop.starting_seconds for loop in {self._train, self._train_last, self._test})

    def train(self, feed: Feed, order: RowIds, watch: Watch) -> Metrics:
        """One epoch."""
        self._model.reset_metrics()
        return _run(self._train, self._train_last, feed, order, self._batch_size, watch)

    def evaluate(self, feed: Feed, rows: RowIds, watch: Watch) -> Metrics:
        """Metrics without training."""
        self._model.reset_metrics()
        at_once = rows_to_evaluate(self._model, self._batch_size)
        return _run(self._test, self._test, feed.unweighted, rows, at_once, watch)


def rows_to_evaluate(model: Any, batch_size: int) -> int:
    """How many rows an evaluation takes at once: the batch size where the loss is a sum over the batch."""
    if getattr(model.loss, "reduction", None) == "sum":
        return batch_size
    return max(batch_size, ROWS_TO_EVALUATE)


def _run(loop: "_Loop", last: "_Loop", feed: Feed, rows: RowIds, batch_size: int, watch: Watch) -> Metrics:
    metrics: Metrics = {}
    whole = len(rows) // batch_size * batch_size
    done = 0
    for stretch in feed.stretches(rows[:whole].reshape(-1, batch_size)):
        for steps, metrics in loop.over(stretch.columns, stretch.batches, stretch.steps):
            watch(Part((done + steps) * batch_size / len(rows), metrics))
        done += stretch.steps
    if whole < len(rows):
        for stretch in feed.stretches(rows[np.newaxis, whole:]):
            for _, metrics in last.over(stretch.columns, stretch.batches, stretch.steps):
                watch(Part(1.0, metrics))
    return metrics


class _Loop:
    """One step function, looped; remembers how many steps fill a chunk."""

    def __init__(self, model: Any, step: Any, *, is_compiled: bool) -> None:
        self._program = _program(model, step)
        self._is_compiled = is_compiled
        self._function: Any = None
        self._chunk = 0
        self.starting_seconds = 0.0

    def over(self, columns: tuple[Any, ...], batches: Any, steps: int) -> Iterator[tuple[int, Metrics]]:
        """Steps done and metrics after each chunk."""
        if self._function is None:
            self._function = self._traced(columns)
        done = 0
        while done < steps:
            end = min(done + max(self._chunk, 1), steps)
            began = time.perf_counter()
            metrics = _floats(self._function(columns, batches, tf.constant(done), tf.constant(end)))
            self._learn(end - done, time.perf_counter() - began)
            done = end
            yield done, metrics

    def _traced(self, columns: tuple[Any, ...]) -> Any:
        # Open shapes: one trace serves whole batches, the smaller one, and every split.
        rows = tuple(tf.TensorSpec([None, *column.shape[1:]], column.dtype) for column in columns)
        ids, index = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)
        return tf.function(
            self._program,
            input_signature=[rows, ids, index, index],
            autograph=False,
            jit_compile=self._is_compiled,
        )

    def _learn(self, steps: int, seconds: float) -> None:
        # The first call traces and compiles: its time says nothing about a step.
        if self._chunk == 0:
            self._chunk = FASTEST_GROWTH
            self.starting_seconds = seconds
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


class KerasEngine:
    """Keras's own fit and evaluate, a batch a call: the reference that the other engines are held against."""

    name = "keras"

    def __init__(self, model: Any, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self.starting_seconds = 0.0

    def train(self, feed: Feed, order: RowIds, watch: Watch) -> Metrics:
        """One epoch of fit."""
        watching = _Watching(len(order), self._batch_size, watch)
        fitted = self._model.fit(
            feed.batches(order, self._batch_size), epochs=1, verbose=0, callbacks=[watching]
        )
        self.starting_seconds = self.starting_seconds or watching.first_seconds
        watching.undo_averaging()
        return _floats({name: values[-1] for name, values in fitted.history.items()})

    def evaluate(self, feed: Feed, rows: RowIds, watch: Watch) -> Metrics:
        """Keras's evaluate in batches of the spec's size."""
        watching = _Watching(len(rows), self._batch_size, watch)
        batches = feed.unweighted.batches(rows, self._batch_size)
        metrics = self._model.evaluate(batches, verbose=0, return_dict=True, callbacks=[watching])
        return _floats(metrics)


class _Watching(keras.callbacks.Callback):
    """Tells the watcher twice a second, and at the end."""

    def __init__(self, rows: int, batch_size: int, watch: Watch) -> None:
        super().__init__()
        self._rows = rows
        self._batch_size = batch_size
        self._watch = watch
        self._began = time.perf_counter()
        self._next = 0.0
        self._raw: list[Any] | None = None
        self.first_seconds = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.first_seconds = self.first_seconds or time.perf_counter() - self._began
        self._tell(batch, logs or {})

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._tell(batch, logs or {})

    def _tell(self, batch: int, logs: dict[str, Any]) -> None:
        done = min((batch + 1) * self._batch_size, self._rows)
        now = time.perf_counter()
        if now >= self._next or done == self._rows:
            self._next = now + CHUNK_SECONDS
            self._watch(Part(done / self._rows, _floats(logs)))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if averages_weights(self.model.optimizer):
            self._raw = weights_of(self.model)

    def undo_averaging(self) -> None:
        """Take back what fit does at its end with averaged weights: more epochs may follow."""
        if self._raw is not None:
            set_weights(self.model, self._raw)


def averages_weights(optimizer: Any) -> bool:
    """Whether the optimizer keeps moving averages of the weights, also below one that scales the loss."""
    return bool(getattr(optimizer, "inner_optimizer", optimizer).use_ema)


def _floats(metrics: dict[str, Any]) -> Metrics:
    # Sorted, as the logs of Keras's fit are.
    return {name: float(metrics[name]) for name in sorted(metrics)}

"""The loop over batches: many of them in one device program, or Keras's own fit."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import tensorflow as tf

from services.spec import EngineName
from worker.events import Metrics
from worker.training.building import set_weights, weights_of
from worker.training.compiled import CompiledPrograms
from worker.training.data import RowIds
from worker.training.feeding import Feed, Signature, Stretch, signature_of
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

log = logging.getLogger(__name__)


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


def make_engine(name: str, model: Any, batch_size: int, programs: CompiledPrograms | None = None) -> Engine:
    """The engine of this name; `programs` are in use by this process."""
    if name == "keras":
        return KerasEngine(model, batch_size)
    return LoopEngine(model, batch_size, name, programs)


class LoopEngine:
    """Many batches in one device program: a loop over rows of a matrix of row ids.

    `xla` compiles that loop. The last smaller batch and evaluations, in large batches, are single steps of a
    TensorFlow graph in both engines: they come once an epoch, and compiling them would not pay.
    """

    def __init__(
        self, model: Any, batch_size: int, name: str, programs: CompiledPrograms | None = None
    ) -> None:
        self.name = name
        self._model = model
        self._batch_size = batch_size
        self._loop = _Loop(model, programs, is_compiled=name == "xla")
        self._last = _Step(model, model.train_step)
        self._test = _Step(model, model.test_step)
        self._tracing: threading.Thread | None = None

    @property
    def starting_seconds(self) -> float:
        """What first calls took."""
        return self._loop.starting_seconds + self._last.starting_seconds + self._test.starting_seconds

    def train(self, feed: Feed, order: RowIds, watch: Watch) -> Metrics:
        """One epoch."""
        self._model.reset_metrics()
        metrics: Metrics = {}
        whole = len(order) // self._batch_size * self._batch_size
        done = 0
        for stretch in feed.stretches(order[:whole].reshape(-1, self._batch_size)):
            self._loop.trace(feed.signature)
            self._trace_evaluation(feed.unweighted.signature)
            for steps, metrics in self._loop.over(stretch):
                watch(Part((done + steps) * self._batch_size / len(order), metrics))
            done += stretch.steps
        for batch in feed.batches(order[whole:], self._batch_size):
            metrics = self._last(batch, feed.signature)
            watch(Part(1.0, metrics))
        return metrics

    def _trace_evaluation(self, signature: Signature) -> None:
        # Python traces it while the device program above is compiled, which needs no Python.
        if self._tracing is None:
            self._tracing = threading.Thread(target=self._test.trace, args=(signature,), daemon=True)
            self._tracing.start()

    def evaluate(self, feed: Feed, rows: RowIds, watch: Watch) -> Metrics:
        """Metrics without training."""
        if self._tracing is not None:
            self._tracing.join()
        self._model.reset_metrics()
        metrics: Metrics = {}
        size = rows_to_evaluate(self._model, self._batch_size)
        plain = feed.unweighted
        for number, batch in enumerate(plain.batches(rows, size), 1):
            metrics = self._test(batch, plain.signature)
            watch(Part(min(number * size / len(rows), 1.0), metrics))
        return metrics


def rows_to_evaluate(model: Any, batch_size: int) -> int:
    """How many rows an evaluation takes at once: the batch size where a loss depends on the cut into batches.

    A sum over the batch does, and a mean over those of its rows whose class is not ignored.
    """
    loss = model.loss
    if getattr(loss, "reduction", None) == "sum" or getattr(loss, "ignore_class", None) is not None:
        return batch_size
    return max(batch_size, ROWS_TO_EVALUATE)


class _Step:
    """One step as a TensorFlow graph; one trace serves batches of all sizes."""

    def __init__(self, model: Any, step: Any) -> None:
        self._model = model
        self._step = step
        self._function: Any = None
        self.starting_seconds = 0.0

    def __call__(self, batch: tuple[Any, ...], signature: Signature) -> Metrics:
        """The running metrics after a batch."""
        began = time.perf_counter()
        is_first = self.starting_seconds == 0.0
        self.trace(signature)
        metrics = _floats(self._function(batch))
        if is_first:
            self.starting_seconds = time.perf_counter() - began
        return metrics

    def trace(self, signature: Signature) -> None:
        """Build the graph, if it is not there."""
        if self._function is None:
            traced = tf.function(self._run, input_signature=[signature], autograph=False)
            self._function = traced.get_concrete_function()

    def _run(self, batch: tuple[Any, ...]) -> dict[str, Any]:
        self._step(batch)
        return self._model.get_metrics_result()


class _Loop:
    """Training steps in a loop; remembers how many of them fill a chunk."""

    def __init__(self, model: Any, programs: CompiledPrograms | None, *, is_compiled: bool) -> None:
        self._model = model
        self._programs = programs
        self._is_compiled = is_compiled
        self._function: Any = None
        self._chunk = 0
        self.starting_seconds = 0.0

    def trace(self, signature: Signature) -> None:
        """Build the program, if it is not there; the first call compiles it."""
        if self._function is None:
            began = time.perf_counter()
            self._function = self._traced(signature)
            self.starting_seconds = time.perf_counter() - began

    def _traced(self, signature: Signature) -> Any:
        ids, index = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.int32)
        function = tf.function(
            self._run,
            input_signature=[signature, ids, index, index],
            autograph=False,
            jit_compile=self._is_compiled,
        )
        return function.get_concrete_function()

    def over(self, stretch: Stretch) -> Iterator[tuple[int, Metrics]]:
        """Steps done and metrics after each chunk."""
        done = 0
        while done < stretch.steps:
            end = min(done + max(self._chunk, 1), stretch.steps)
            began = time.perf_counter()
            metrics = _floats(self._called(stretch, done, end))
            self._learn(end - done, time.perf_counter() - began)
            done = end
            yield done, metrics

    def _called(self, stretch: Stretch, first: int, end: int) -> dict[str, Any]:
        arguments = (stretch.columns, stretch.batches, tf.constant(first), tf.constant(end))
        try:
            return self._function(*arguments)
        except tf.errors.OpError:
            # Nothing has run before it is compiled; a program that was kept may be damaged.
            if self._chunk or not self._is_compiled or self._programs is None or not self._programs.forget():
                raise
            log.warning("a compiled program could not be used; all that were kept are removed")
        self._function = self._traced(signature_of(stretch.columns))
        return self._function(*arguments)

    def _learn(self, steps: int, seconds: float) -> None:
        # The first call compiles: its time says nothing about a step.
        if self._chunk == 0:
            self._chunk = FASTEST_GROWTH
            self.starting_seconds += seconds
            return
        fitting = int(steps * CHUNK_SECONDS / seconds)
        self._chunk = max(1, min(fitting, FASTEST_GROWTH * self._chunk))

    def _run(self, columns: tuple[Any, ...], batches: Any, first: Any, end: Any) -> dict[str, Any]:
        def body(index: Any) -> list[Any]:
            self._model.train_step(tuple(tf.gather(column, batches[index]) for column in columns))
            return [index + 1]

        # One iteration at a time: two steps at once would race for the weights.
        tf.while_loop(lambda index: index < end, body, [first], parallel_iterations=1)
        return self._model.get_metrics_result()


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
        fitted = self._model.fit(self._batches(feed, order), epochs=1, verbose=0, callbacks=[watching])
        self.starting_seconds = self.starting_seconds or watching.first_seconds
        watching.undo_averaging()
        return _floats({name: values[-1] for name, values in fitted.history.items()})

    def evaluate(self, feed: Feed, rows: RowIds, watch: Watch) -> Metrics:
        """Keras's evaluate in batches of the spec's size."""
        watching = _Watching(len(rows), self._batch_size, watch)
        batches = self._batches(feed.unweighted, rows)
        return _floats(self._model.evaluate(batches, verbose=0, return_dict=True, callbacks=[watching]))

    def _batches(self, feed: Feed, rows: RowIds) -> tf.data.Dataset:
        # fit asks twice: once for a first batch to look at.
        batches = tf.data.Dataset.from_generator(
            lambda: feed.batches(rows, self._batch_size), output_signature=feed.signature
        )
        # Without a number fit finds the end by one step too many, which counts as one of the optimizer's.
        return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(len(rows) / self._batch_size)))


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

"""What a trainer does with its order, from the first event to the verdict."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from services.spec import TrainSpec
from services.states import Reason, Split
from worker.events import (
    BestEpoch,
    CheckpointSkipped,
    EngineChosen,
    EpochEnded,
    EvaluateOrder,
    Failed,
    Finished,
    Metrics,
    Order,
    PredictOrder,
    Progress,
    Ready,
    Resumed,
    SavedCheckpoint,
    SplitMetrics,
    StartedUp,
    Stopped,
    TrainOrder,
)
from worker.training import device, finishing, predicting
from worker.training.building import adapt, build_model, seed_of, set_weights, weights_of
from worker.training.checkpoints import CheckpointFolder, CheckpointUnusable, Pace, TrainingState, spec_sha256
from worker.training.compiled import CompiledPrograms
from worker.training.data import Array, has_only_finite_inputs
from worker.training.early_stopping import Direction, Stopper, direction_of, is_better
from worker.training.engine import Choice, Part, Watch, choose_engine, make_engine
from worker.training.evaluating import Splits, evaluate_model, evaluate_split
from worker.training.feeding import Streamed
from worker.training.listener import Listener, StopAsked
from worker.training.problems import BadData, BadSpec, Diverged
from worker.training.seeds import seed_epoch, shuffled
from worker.training.timings import Timings
from worker.training.verdicts import verdict_on

SECONDS_BETWEEN_PROGRESS = 0.25
STARTUP = ("fork", "device", "data", "build", "resume")
"""Steps before the first epoch, in their order."""


def carry_out(order: Order, listener: Listener, *, tensorflow_preloaded: bool) -> Finished | Stopped | Failed:
    """Train, evaluate or predict as ordered. Whatever goes wrong becomes a verdict with a reason."""
    began = time.time()
    try:
        place = device.set_up(order.device)
        ready = _ready(place, tensorflow_preloaded)
        if isinstance(order, PredictOrder):
            return predicting.serve(order, listener, ready)
        listener.send(ready)
        if isinstance(order, EvaluateOrder):
            return evaluate_model(order, lambda: listener.stop_wanted)
        return Training(order, listener, place, began).run()
    except Exception as error:  # noqa: BLE001 - here a failure becomes the job's verdict
        return verdict_on(error, is_gpu=order.device.kind == "gpu")


def _ready(place: device.Place, tensorflow_preloaded: bool) -> Ready:
    return Ready(
        tensorflow_preloaded=tensorflow_preloaded,
        tensorflow=tf.__version__,
        keras=keras.__version__,
        numpy=np.__version__,
        device=place.name,
        threads=place.threads,
    )


class Training:
    """One attempt at one job."""

    def __init__(self, order: TrainOrder, listener: Listener, place: device.Place, began: float) -> None:
        self._order = order
        self._listener = listener
        self._place = place
        self._spec = TrainSpec.model_validate(order.spec)
        self._seed = seed_of(self._spec)
        self._checkpoints = CheckpointFolder(Path(order.job_dir) / "checkpoints", order.fence)
        self._programs = None if order.compiled is None else CompiledPrograms(Path(order.compiled))
        self._pace = Pace()
        self._timings = Timings()
        self._timings.seconds["device"] = time.time() - began
        if order.sent_at is not None:
            self._timings.seconds["fork"] = began - order.sent_at
        self._best: BestEpoch | None = None
        self._epoch = 0
        self._next_progress = 0.0

    def run(self) -> Finished | Stopped:
        """The whole story."""
        if self._programs is not None and not self._place.is_gpu:
            self._programs.use()
        self._prepare()
        with self._timings.of("resume"):
            choice = self._resume()
        self._use_engine(choice)
        try:
            self._train_all()
            return self._finish()
        except StopAsked:
            return Stopped(self._epoch)

    def _train_all(self) -> None:
        has_started = False
        while self._epoch < self._spec.fit.epochs and not self._has_stopped_early:
            self._obey()
            ended = self._run_epoch(self._epoch)
            if not has_started:
                self._listener.send(StartedUp(self._startup(ended.seconds)))
                has_started = True
            self._listener.send(ended)
            self._epoch += 1

    def _obey(self) -> None:
        if self._listener.stop_wanted:
            raise StopAsked

    def _startup(self, first_epoch: float) -> dict[str, float]:
        starting = self._engine.starting_seconds
        before = {name: self._timings.seconds[name] for name in STARTUP if name in self._timings.seconds}
        return before | {"trace_and_compile": starting, "first_epoch": first_epoch}

    def _prepare(self) -> None:
        with self._timings.of("data"):
            self._splits = Splits(self._order.dataset, self._spec, device=self._order.device)
            self._feed = self._splits.feed
            self._cut = self._splits.cut
        with self._timings.of("build"):
            self._model = build_model(self._spec, self._splits.schema)
            adapt(self._model, self._splits.unsealed, self._cut.train)
        self._watch_for_the_best()

    def _use_engine(self, choice: Choice) -> None:
        self._engine = make_engine(choice.name, self._model, self._spec.fit.batch_size, self._programs)
        self._listener.send(EngineChosen(choice.name, choice.why + self._how_it_is_fed))

    @property
    def _how_it_is_fed(self) -> str:
        if not isinstance(self._feed, Streamed):
            return ""
        return f" The data is streamed: it is larger than the {self._order.device.data_mb:,} MiB set for it."

    def _watch_for_the_best(self) -> None:
        rule = self._spec.fit.early_stopping
        self._monitor = "val_loss" if len(self._cut.validation) else "loss"
        self._direction: Direction = "min"
        self._stopper: Stopper | None = None
        if rule is not None:
            self._direction = direction_of(rule, _metrics_of(self._model))
            self._monitor = rule.monitor
            self._stopper = Stopper(rule, self._direction)

    @property
    def _has_stopped_early(self) -> bool:
        return self._stopper is not None and self._stopper.has_stopped

    def _resume(self) -> Choice:
        for file in self._order.checkpoints:
            try:
                state = self._checkpoints.read(file)
                self._restore(state)
            except CheckpointUnusable as error:
                self._listener.send(CheckpointSkipped(file.path, str(error)))
            else:
                self._epoch = state.epoch + 1
                self._listener.send(Resumed(self._epoch, file.path))
                # Two engines differ in the last bits: a job ends on the one it began with.
                return Choice(state.facts["engine"], "It trained the epochs before these.")
        if self._order.checkpoints:
            self._listener.send(Resumed(0, ""))
        wanted, steps = self._spec.fit.engine, self._splits.steps_an_epoch
        return choose_engine(wanted, self._model, steps, is_gpu=self._place.is_gpu)

    def _restore(self, state: TrainingState) -> None:
        _check_that_it_fits(self._model.weights, state.weights)
        _check_that_it_fits(self._model.optimizer.variables, state.optimizer)
        set_weights(self._model, state.weights)
        for variable, value in zip(self._model.optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
        self._restore_what_was_watched(state)

    def _restore_what_was_watched(self, state: TrainingState) -> None:
        best, stopped = state.facts["best"], state.facts["early_stopping"]
        self._best = None if best is None else BestEpoch(**best)
        if self._stopper is None and stopped is not None:
            # The checkpoint is a parent's whose early stopping was removed, and with it what it monitored.
            self._best = self._order.best
        # Before its first epoch early stopping has no state: what is there is a parent's, and was reset.
        if self._stopper is not None and stopped is not None and self._stopper.counts(state.epoch):
            self._stopper.from_state(stopped, state.best_weights)
            self._refuse_to_continue_nothing(state)

    def _refuse_to_continue_nothing(self, state: TrainingState) -> None:
        # Its parent was cancelled or failed after early stopping had fired: its reason does not tell.
        is_inherited = state.facts["job"] != self._order.job
        if self._order.is_continued and is_inherited and self._has_stopped_early:
            raise BadSpec(
                f"Early stopping had ended training after epoch {state.epoch + 1} already, so no more epochs "
                "would come. Continue the parent with early_stopping `reset` or `remove`."
            )

    def _run_epoch(self, epoch: int) -> EpochEnded:
        began, before = time.perf_counter(), self._engine.starting_seconds
        metrics = self._train(epoch)
        if len(self._cut.validation):
            metrics |= self._validate(epoch)
        seconds = time.perf_counter() - began - (self._engine.starting_seconds - before)
        self._splits.check_files()
        self._judge(epoch, metrics)
        return EpochEnded(
            epoch=epoch,
            metrics=metrics,
            learning_rate=self._learning_rate,
            seconds=seconds,
            examples=len(self._cut.train),
            checkpoint=self._checkpoint(epoch),
        )

    def _train(self, epoch: int) -> Metrics:
        seed_epoch(self._model, self._seed, epoch)
        rows = self._cut.train
        order = shuffled(rows, self._seed, epoch) if self._spec.fit.shuffle else rows
        with self._timings.of("train"):
            return self._watched(epoch, lambda watch: self._engine.train(self._feed, order, watch))

    def _validate(self, epoch: int) -> Metrics:
        rows = self._cut.validation
        with self._timings.of("validate"):
            return self._watched(
                epoch, lambda watch: self._engine.evaluate(self._feed, rows, watch), prefix="val_"
            )

    def _watched(self, epoch: int, run: Callable[[Watch], Metrics], prefix: str = "") -> Metrics:
        def named(metrics: Metrics) -> Metrics:
            return {prefix + name: value for name, value in metrics.items()}

        def watch(part: Part) -> None:
            self._obey()
            self._refuse_to_diverge(epoch, prefix + "loss", named(part.metrics))
            self._report(epoch, 1.0 if prefix else part.share, named(part.metrics))

        return named(run(watch))

    def _report(self, epoch: int, fraction: float, metrics: Metrics) -> None:
        now = time.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + SECONDS_BETWEEN_PROGRESS
            self._listener.send(Progress(epoch, fraction, metrics))

    def _refuse_to_diverge(self, epoch: int, name: str, metrics: Metrics) -> None:
        if not math.isfinite(metrics[name]):
            self._fail_as_diverged(epoch, f"{name} became {metrics[name]}")

    def _fail_as_diverged(self, epoch: int, what: str) -> None:
        if not has_only_finite_inputs(self._splits.unsealed):
            raise BadData(f"In epoch {epoch + 1} {what}: the data holds NaN or infinite values.", epoch)
        rate = self._learning_rate
        raise Diverged(
            f"Training diverged: in epoch {epoch + 1} {what} at learning rate {rate:g}. "
            f"Try a smaller learning rate, such as {rate / 10:g}, or inputs scaled to about -1 to 1.",
            epoch,
        )

    @property
    def _learning_rate(self) -> float:
        return float(self._model.optimizer.learning_rate)

    def _judge(self, epoch: int, metrics: Metrics) -> None:
        if self._stopper is not None:
            self._stopper.epoch_ended(epoch, metrics, lambda: weights_of(self._model))
        value = metrics[self._monitor]
        if is_better(value, self._best.value if self._best else None, self._direction):
            self._best = BestEpoch(epoch, self._monitor, value)

    def _checkpoint(self, epoch: int) -> SavedCheckpoint | None:
        is_last = epoch + 1 == self._spec.fit.epochs or self._has_stopped_early
        if not (is_last or self._listener.stop_wanted or self._pace.is_due()):
            return None
        began = time.perf_counter()
        saved = self._checkpoints.write(self._state(epoch))
        seconds = time.perf_counter() - began
        self._timings.add("checkpoints", seconds)
        self._pace.wrote(seconds)
        return saved

    def _state(self, epoch: int) -> TrainingState:
        weights = weights_of(self._model)
        if not all(np.isfinite(weight).all() for weight in weights):
            self._fail_as_diverged(epoch, "a weight became NaN or infinite")
        stopper = self._stopper
        return TrainingState(
            epoch=epoch,
            weights=weights,
            optimizer=[np.array(variable) for variable in self._model.optimizer.variables],
            best_weights=stopper.best_weights if stopper else None,
            facts={
                "job": self._order.job,
                "spec_sha256": spec_sha256(self._order.spec),
                "versions": {
                    "tensorflow": tf.__version__,
                    "keras": keras.__version__,
                    "numpy": np.__version__,
                },
                "engine": self._engine.name,
                "best": asdict(self._best) if self._best else None,
                "early_stopping": stopper.to_state() if stopper else None,
            },
        )

    def _evaluated(self, split: Split) -> SplitMetrics:
        return evaluate_split(
            split, self._splits, self._model, self._engine, lambda: self._listener.stop_wanted
        )

    def _finish(self) -> Finished:
        restored = finishing.settle_weights(self._model, self._stopper)
        with self._timings.of("evaluate"):
            evaluations = [self._evaluated(split) for split in self._spec.evaluate]
        folder = Path(self._order.job_dir)
        with self._timings.of("save"):
            model = finishing.save_model(self._model, folder, self._order.fence)
            finishing.save_input_example(self._splits.unsealed.x, self._cut.train, folder)
        return Finished(
            evaluations,
            reason=Reason.STOPPED_EARLY if self._has_stopped_early else Reason.FINISHED,
            epochs=self._epoch,
            best=self._best,
            restored_epoch=restored,
            model=model,
            engine=self._engine.name,
            timings=self._timings.seconds,
            target_scaling=self._splits.scaling,
        )


def _metrics_of(model: Any) -> list[Any]:
    return [metric for group in model.metrics for metric in getattr(group, "metrics", [group])]


def _check_that_it_fits(variables: list[Any], arrays: list[Array]) -> None:
    expected = [(tuple(v.shape), str(v.dtype)) for v in variables]
    found = [(array.shape, str(array.dtype)) for array in arrays]
    if expected != found:
        raise CheckpointUnusable("it was written for another model or optimizer")

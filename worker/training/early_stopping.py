"""Keras's EarlyStopping as a state machine that can be stored and go on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from services.spec import EarlyStopping
from worker.events import Metrics
from worker.training.data import Array
from worker.training.problems import BadSpec

Direction = Literal["min", "max"]


def direction_of(rule: EarlyStopping, metrics: Iterable[Any]) -> Direction:
    """Which way is better. `auto`: the loss goes down, a metric as its class says. Raises BadSpec."""
    if rule.mode != "auto":
        return rule.mode
    name = rule.monitor.removeprefix("val_")
    if name == "loss":
        return "min"
    for metric in metrics:
        if metric.name == name and hasattr(metric, "_direction"):
            return "max" if metric._direction == "up" else "min"
    raise BadSpec(
        f"early_stopping cannot tell whether {rule.monitor} should go up or down: give mode, `min` or `max`."
    )


def is_better(value: float, than: float | None, direction: Direction, min_delta: float = 0.0) -> bool:
    """Whether `value` improves on `than` by more than `min_delta`; compared in float32, as Keras does."""
    if than is None:
        return True
    if direction == "min":
        return bool(np.float32(value + min_delta) < np.float32(than))
    return bool(np.float32(value - min_delta) > np.float32(than))


@dataclass
class Stopper:
    """When to stop, and which weights were best.

    https://keras.io/api/callbacks/early_stopping/
    """

    rule: EarlyStopping
    direction: Direction
    wait: int = 0
    best: float | None = None
    best_epoch: int = 0
    best_weights: list[Array] | None = None
    has_stopped: bool = False

    def epoch_ended(self, epoch: int, metrics: Metrics, weights: Callable[[], list[Array]]) -> None:
        """Take in an epoch's metrics; afterwards `has_stopped` says whether it was the last."""
        rule = self.rule
        value = self._monitored(metrics)
        if not self.counts(epoch):
            return
        if rule.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = weights(), epoch
        self.wait += 1
        if self._improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            if rule.restore_best_weights:
                self.best_weights = weights()
            if rule.baseline is None or self._improves(value, rule.baseline):
                self.wait = 0
        elif self.wait >= rule.patience and epoch > 0:
            self.has_stopped = True

    def counts(self, epoch: int) -> bool:
        """Whether this epoch is watched already."""
        return epoch >= self.rule.start_from_epoch

    def _improves(self, value: float, than: float | None) -> bool:
        return is_better(value, than, self.direction, self.rule.min_delta)

    def _monitored(self, metrics: Metrics) -> float:
        if self.rule.monitor not in metrics:
            names = ", ".join(metrics)
            raise BadSpec(f"early_stopping monitors {self.rule.monitor}, which is not measured; {names} are.")
        return metrics[self.rule.monitor]

    def to_state(self) -> dict[str, Any]:
        """Everything but the best weights, as JSON."""
        return {
            "wait": self.wait,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "has_stopped": self.has_stopped,
        }

    def from_state(self, state: dict[str, Any], best_weights: list[Array] | None) -> None:
        """Go on from a stored state."""
        self.wait = state["wait"]
        self.best = state["best"]
        self.best_epoch = state["best_epoch"]
        self.has_stopped = state["has_stopped"]
        self.best_weights = best_weights

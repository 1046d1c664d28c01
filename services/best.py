"""Which epoch is the best so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Monitor:
    """The metric that tells: what early stopping watches, else the validation loss, else the loss."""

    metric: str
    maximise: bool

    @classmethod
    def of(cls, spec: dict[str, Any]) -> "Monitor":
        """The monitor of a resolved spec."""
        stopping = spec["fit"]["early_stopping"]
        if stopping is None:
            validated = spec["split"]["validation"] is not None
            return cls("val_loss" if validated else "loss", maximise=False)
        mode = stopping["mode"]
        rises = mode == "max" or (mode == "auto" and _rises(stopping["monitor"]))
        return cls(stopping["monitor"], rises)

    def better(
        self, best: dict[str, Any] | None, epoch: int, metrics: Mapping[str, float | None]
    ) -> dict[str, Any] | None:
        """The best after one more epoch. One that lacks the metric, or has NaN there, changes nothing."""
        value = metrics.get(self.metric)
        if value is None or value != value:
            return best
        if best is not None and not (value > best["value"] if self.maximise else value < best["value"]):
            return best
        return {"epoch": epoch, "metric": self.metric, "value": value}


def _rises(metric: str) -> bool:
    name = metric.removeprefix("val_").lower()
    return any(word in name for word in ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2"))

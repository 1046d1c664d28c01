"""What the engines are raced on: models and optimizers. The arrays come from benchmarks/arrays.py."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Workload:
    """A model on some rows."""

    name: str
    dataset: str
    """In the service's catalogue."""
    rows: int
    """The first so many of the unsealed rows."""
    inputs: int
    layers: tuple[int, ...]
    """Units of each Dense layer, relu between them; the last is softmax for classes, linear for a number."""
    is_classifier: bool
    optimizer: Literal["SGD", "Adam"]
    learning_rate: float
    scale: float | None = None
    """Inputs are divided by this, batch by batch."""
    normalizes: bool = False
    """Inputs get mean 0 and variance 1 by the training rows, batch by batch."""
    epochs_a_turn: int = 1
    """Measured at once: an epoch of some milliseconds is no more than noise."""

    @property
    def about(self) -> str:
        """The model and its training in one line."""
        shape = "-".join(map(str, self.layers))
        return f"{self.inputs}-{shape}, {self.rows:,} rows, {self.optimizer} {self.learning_rate:g}"


WORKLOADS = {
    one.name: one
    for one in (
        Workload("fashion", "fashion_mnist", 55_000, 784, (300, 100, 10), True, "SGD", 0.01, scale=255),
        Workload(
            "california",
            "california_housing",
            11_610,
            8,
            (50, 50, 50, 1),
            False,
            "Adam",
            0.001,
            normalizes=True,
            epochs_a_turn=5,
        ),
        Workload("digits", "digits", 1_437, 64, (64, 32, 10), True, "Adam", 0.001, 16, epochs_a_turn=20),
        Workload("wide", "fashion_mnist", 4_000, 784, (2048, 2048, 10), True, "Adam", 0.001, scale=255),
    )
}
BATCH_SIZES = (32, 256, 4096)


def quick(workload: Workload) -> Workload:
    """A fraction of it."""
    return replace(workload, rows=min(workload.rows, 1_000), epochs_a_turn=1)


def order(workload: Workload, batch_size: int, places: dict[str, str]) -> dict[str, Any]:
    """What a contender is told; `places` are the .npy files of x and y."""
    return {**asdict(workload), **places, "batch_size": min(batch_size, workload.rows)}

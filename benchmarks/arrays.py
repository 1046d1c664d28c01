"""The rows that the engines are raced on, as .npy files that every contender reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import Workload
from worker.sources.gathering import gather

CACHE = Path(__file__).parent / ".data"
"""Originals by dataset; a file that cannot be fetched here may be put there, as docs/compose.md says."""


@dataclass(frozen=True)
class Arrays:
    """Two files, and whether the rows are the dataset's own."""

    x: Path
    y: Path
    is_real: bool

    @property
    def places(self) -> dict[str, str]:
        """For an order."""
        return {"x": str(self.x), "y": str(self.y)}


def store_arrays(workload: Workload, folder: Path) -> Arrays:
    """The first rows of the dataset, flat; drawn at random in the same shape if no source has it."""
    material = gather(workload.dataset, CACHE / workload.dataset, lambda *_: None)
    if material is None:
        x, y = _drawn(workload)
    else:
        x, y = (
            material.train_x[: workload.rows].reshape(-1, workload.inputs),
            material.train_y[: workload.rows],
        )
    stored = Arrays(
        folder / f"{workload.name}-x.npy", folder / f"{workload.name}-y.npy", material is not None
    )
    np.save(stored.x, x)
    np.save(stored.y, y)
    return stored


def _drawn(workload: Workload) -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    if not workload.is_classifier:
        x = random.normal(size=(workload.rows, workload.inputs)).astype("float32")
        return x, x.sum(axis=1)
    is_picture = workload.scale == 255
    x = random.integers(0, int(workload.scale or 1) + 1, (workload.rows, workload.inputs))
    y = random.integers(0, workload.layers[-1], workload.rows).astype("uint8")
    return x.astype("uint8" if is_picture else "float32"), y

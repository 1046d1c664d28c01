"""Trainshed's loop over batches, as a trainer uses it; the argument is the engine's name.

The only module that knows the engine's interface.
"""

import sys
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.contenders.turns import Order, Turns, read_arrays, take_part
from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.spec import TrainSpec
from worker.events import Device
from worker.training import device
from worker.training.building import adapt, build_model
from worker.training.data import Table
from worker.training.engine import make_engine
from worker.training.feeding import feed
from worker.training.seeds import seed_epoch, shuffled

SEED = 42


def contend(order: Order, turns: Turns, engine: str) -> None:
    """Epochs as worker/training/trainer.py runs them, without validation."""
    turns.take(_Training(order, engine).epoch, order["epochs_a_turn"])


class _Training:
    def __init__(self, order: Order, engine: str) -> None:
        table = Table(*read_arrays(order))
        self._rows = np.arange(len(table))
        self._model = build_model(TrainSpec.model_validate(spec_of(order)), schema_of(order, table))
        adapt(self._model, table, self._rows)
        self._engine = make_engine(engine, self._model, order["batch_size"])
        self._feed = feed(table)
        self._epoch = 0

    def epoch(self) -> float:
        """One epoch; the mean loss."""
        seed_epoch(self._model, SEED, self._epoch)
        order = shuffled(self._rows, SEED, self._epoch)
        metrics = self._engine.train(self._feed, order, lambda part: None)
        self._epoch += 1
        return metrics["loss"]


def spec_of(order: Order) -> dict[str, Any]:
    """The spec that a user would submit for this workload."""
    hidden: list[Any] = [{"type": "Dense", "units": n, "activation": "relu"} for n in order["layers"][:-1]]
    last = {"type": "Dense", "units": order["layers"][-1]}
    if order["is_classifier"]:
        last["activation"] = "softmax"
    spec: dict[str, Any] = {
        "dataset": order["dataset"],
        "model": {"layers": [*(["Normalization"] if order["normalizes"] else []), *hidden, last]},
        "compile": {
            "loss": "sparse_categorical_crossentropy" if order["is_classifier"] else "mse",
            "optimizer": {"type": order["optimizer"], "learning_rate": order["learning_rate"]},
        },
        "fit": {"epochs": 1, "batch_size": order["batch_size"]},
        "seed": SEED,
    }
    return spec | ({"preprocessing": {"scale": order["scale"]}} if order["scale"] else {})


def schema_of(order: Order, table: Table) -> DatasetSchema:
    """The rows as a dataset of the service."""
    classes = [str(n) for n in range(order["layers"][-1])] if order["is_classifier"] else None
    return DatasetSchema(
        name=order["dataset"],
        task=Task.MULTICLASS if classes else Task.REGRESSION,
        features=Features(shape=table.x.shape[1:], dtype=str(table.x.dtype)),
        target=Target(shape=(), dtype=str(table.y.dtype), names=["target"], class_names=classes),
        rows=Rows(train=len(table), test=0),
    )


if __name__ == "__main__":
    device.set_up(Device())
    take_part(
        partial(contend, engine=sys.argv[1]),
        lambda: {"keras": keras.__version__, "tensorflow": tf.__version__},
    )

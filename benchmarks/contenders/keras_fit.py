"""Keras's own `fit`, as a script has it; the argument is steps_per_execution."""

import sys
from functools import partial

import keras
import tensorflow as tf

from benchmarks.contenders.turns import Order, Turns, read_arrays, take_part


def contend(order: Order, turns: Turns, steps_per_execution: int) -> None:
    """One long `fit`, which pauses between two epochs."""
    x, y = read_arrays(order)
    keras.utils.set_random_seed(42)
    model = _model(order, x)
    model.compile(
        optimizer=getattr(keras.optimizers, order["optimizer"])(learning_rate=order["learning_rate"]),
        loss="sparse_categorical_crossentropy" if order["is_classifier"] else "mse",
        steps_per_execution=steps_per_execution,
    )
    pause = _Pause(turns, order["epochs_a_turn"])
    model.fit(x, y, batch_size=order["batch_size"], epochs=1_000_000, verbose=0, callbacks=[pause])


def _model(order: Order, x: object) -> keras.Model:
    layers = [keras.layers.Dense(units, activation="relu") for units in order["layers"][:-1]]
    layers.append(
        keras.layers.Dense(order["layers"][-1], activation="softmax" if order["is_classifier"] else None)
    )
    if order["normalizes"]:
        layers.insert(0, keras.layers.Normalization())
        layers[0].adapt(x)
    if order["scale"]:
        layers.insert(0, keras.layers.Rescaling(1 / order["scale"]))
    return keras.Sequential([keras.Input((order["inputs"],), dtype=x.dtype), *layers])


class _Pause(keras.callbacks.Callback):
    """The first epoch is not measured: it traces and compiles."""

    def __init__(self, turns: Turns, epochs_a_turn: int) -> None:
        super().__init__()
        self._turns = turns
        self._epochs_a_turn = epochs_a_turn
        self._left = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report a turn that is over and wait for the next."""
        self._left -= 1
        if self._left > 0:
            return
        if epoch:
            self._turns.done(float((logs or {})["loss"]))
        self.model.stop_training = not self._turns.wait()
        self._left = self._epochs_a_turn


if __name__ == "__main__":
    take_part(
        partial(contend, steps_per_execution=int(sys.argv[1])),
        lambda: {"keras": keras.__version__, "tensorflow": tf.__version__},
    )

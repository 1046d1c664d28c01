"""scikit-learn's MLP, one epoch a `partial_fit`. It takes no whole numbers: its inputs are scaled before."""

from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.contenders.turns import Order, Turns, read_arrays, take_part

KERAS_EPSILON = 1e-7


def contend(order: Order, turns: Turns) -> None:
    """Epochs by turns. The last layer's units are the targets' own."""
    x, y = _prepared(order)
    model = _model(order)
    classes = {"classes": np.arange(order["layers"][-1])} if order["is_classifier"] else {}
    model.partial_fit(x, y, **classes)
    while turns.wait():
        for _ in range(order["epochs_a_turn"]):
            model.partial_fit(x, y)
        # Its loss of squares is half of Keras's.
        turns.done(float(model.loss_) * (1 if order["is_classifier"] else 2))


def _prepared(order: Order) -> tuple[Any, Any]:
    x, y = read_arrays(order)
    x = np.asarray(x, np.float32)
    if order["normalizes"]:
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x / np.float32(order["scale"] or 1), y


def _model(order: Order) -> Any:
    kind = MLPClassifier if order["is_classifier"] else MLPRegressor
    return kind(
        hidden_layer_sizes=order["layers"][:-1],
        solver=order["optimizer"].lower(),
        learning_rate_init=order["learning_rate"],
        batch_size=order["batch_size"],
        alpha=0,
        momentum=0,
        nesterovs_momentum=False,
        epsilon=KERAS_EPSILON,
        random_state=42,
    )


if __name__ == "__main__":
    take_part(contend, lambda: {"scikit-learn": sklearn.__version__})

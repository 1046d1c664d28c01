"""JAX: an epoch is one compiled lax.scan over a matrix of row ids, and one step for the smaller batch."""

from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from benchmarks.contenders.turns import Order, Turns, read_arrays, take_part

KERAS_EPSILON = 1e-7


def contend(order: Order, turns: Turns) -> None:
    """Epochs by turns."""
    turns.take(_Training(order).epoch, order["epochs_a_turn"])


class _Training:
    def __init__(self, order: Order) -> None:
        x, y = read_arrays(order)
        self._columns = jnp.asarray(x), jnp.asarray(y)
        self._random = np.random.default_rng(42)
        self._batch_size = order["batch_size"]
        weights = _glorot(order, self._random)
        zeros = jax.tree.map(jnp.zeros_like, weights)
        self._state = weights, zeros, jax.tree.map(jnp.zeros_like, weights), jnp.zeros((), jnp.int32)
        self._run = jax.jit(_program(order, x), donate_argnums=0)

    def epoch(self) -> float:
        """One epoch; the mean loss."""
        rows = len(self._columns[0])
        ids = self._random.permutation(rows).astype(np.int32)
        whole = rows // self._batch_size * self._batch_size
        total = 0.0
        for part in (ids[:whole].reshape(-1, self._batch_size), ids[whole:][None]):
            if part.size:
                self._state, losses = self._run(self._state, part, *self._columns)
                total += float(losses) * part.shape[1]
        return total / rows


def _program(order: Order, x: Any) -> Any:
    offset, factor = _front(order, x)
    update = _sgd(order["learning_rate"]) if order["optimizer"] == "SGD" else _adam(order["learning_rate"])

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        out = (x.astype(jnp.float32) - offset) * factor
        for kernel, bias in weights[:-1]:
            out = jax.nn.relu(out @ kernel + bias)
        out = out @ weights[-1][0] + weights[-1][1]
        if order["is_classifier"]:
            return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None].astype(jnp.int32), 1).mean()
        return jnp.square(out[:, 0] - y).mean()

    def run(state: Any, batches: Any, x: Any, y: Any) -> Any:
        def step(state: Any, ids: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(state[0], x[ids], y[ids])
            return update(state, gradients), loss

        state, losses = lax.scan(step, state, batches)
        return state, losses.sum()

    return run


def _sgd(rate: float) -> Any:
    def update(state: Any, gradients: Any) -> Any:
        return jax.tree.map(lambda w, g: w - rate * g, state[0], gradients), *state[1:]

    return update


def _adam(rate: float) -> Any:
    """Kingma and Ba, https://arxiv.org/abs/1412.6980, with the step size of its section 2."""

    def update(state: Any, gradients: Any) -> Any:
        weights, first, second, count = state
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        size = rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        weights = jax.tree.map(
            lambda w, m, v: w - size * m / (jnp.sqrt(v) + KERAS_EPSILON), weights, first, second
        )
        return weights, first, second, count

    return update


def _glorot(order: Order, random: np.random.Generator) -> Any:
    widths = [order["inputs"], *order["layers"]]
    weights = []
    for wide, units in pairwise(widths):
        limit = np.sqrt(6 / (wide + units))
        kernel = random.uniform(-limit, limit, (wide, units)).astype(np.float32)
        weights.append((jnp.asarray(kernel), jnp.zeros(units)))
    return weights


def _front(order: Order, x: Any) -> tuple[Any, Any]:
    if order["normalizes"]:
        return x.mean(axis=0), 1 / x.std(axis=0)
    return 0.0, 1 / (order["scale"] or 1)


if __name__ == "__main__":
    take_part(contend, lambda: {"jax": jax.__version__})

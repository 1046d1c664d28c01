"""PyTorch's plain loop; the argument is where batches come from: `index` (a permutation) or `loader`."""

import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contenders.turns import Order, Turns, choose_threads, read_arrays, take_part

KERAS_EPSILON = 1e-7


def contend(order: Order, turns: Turns, batches: str) -> None:
    """The loop of PyTorch's own introduction."""
    turns.threads = choose_threads(_Training(order, batches).epoch, torch.set_num_threads)
    torch.manual_seed(42)
    turns.take(_Training(order, batches).epoch, order["epochs_a_turn"])


class _Training:
    def __init__(self, order: Order, batches: str) -> None:
        x, y = read_arrays(order)
        self._x = torch.from_numpy(x)
        self._y = torch.from_numpy(y).long() if order["is_classifier"] else torch.from_numpy(y)[:, None]
        self._batch_size = order["batch_size"]
        self._batches = self._loaded() if batches == "loader" else self._indexed
        self._model = _model(order, self._x)
        self._loss = nn.CrossEntropyLoss() if order["is_classifier"] else nn.MSELoss()
        self._optimizer = _optimizer(order, self._model)

    def epoch(self) -> float:
        """One epoch; the mean loss."""
        total = torch.zeros(())
        for x, y in self._batches():
            self._optimizer.zero_grad()
            loss = self._loss(self._model(x), y)
            loss.backward()
            self._optimizer.step()
            total += loss.detach() * len(x)
        return total.item() / len(self._x)

    def _indexed(self) -> Iterator[Any]:
        for ids in torch.randperm(len(self._x)).split(self._batch_size):
            yield self._x[ids], self._y[ids]

    def _loaded(self) -> Any:
        loader = DataLoader(TensorDataset(self._x, self._y), self._batch_size, shuffle=True)
        return lambda: loader


class _Front(nn.Module):
    """Whole numbers to float32, and (x - offset) / scale."""

    def __init__(self, offset: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("_offset", offset)
        self.register_buffer("_factor", 1 / scale)

    def forward(self, x: Any) -> Any:
        """Of a batch."""
        return (x.float() - self._offset) * self._factor


def _model(order: Order, x: Any) -> nn.Module:
    parts: list[nn.Module] = []
    if order["scale"]:
        parts.append(_Front(torch.zeros(()), torch.tensor(float(order["scale"]))))
    if order["normalizes"]:
        parts.append(_Front(x.mean(dim=0), x.std(dim=0, correction=0)))
    widths = [order["inputs"], *order["layers"]]
    for wide, units in pairwise(widths):
        dense = nn.Linear(wide, units)
        nn.init.xavier_uniform_(dense.weight)
        nn.init.zeros_(dense.bias)
        parts += [dense, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _optimizer(order: Order, model: nn.Module) -> Any:
    if order["optimizer"] == "SGD":
        return torch.optim.SGD(model.parameters(), lr=order["learning_rate"])
    return torch.optim.Adam(model.parameters(), lr=order["learning_rate"], eps=KERAS_EPSILON)


if __name__ == "__main__":
    take_part(partial(contend, batches=sys.argv[1]), lambda: {"torch": torch.__version__})

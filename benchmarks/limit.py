"""The matrix products of one epoch, which no engine can go without."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Product(NamedTuple):
    """(m, k) times (k, n); which side lies transposed in memory."""

    m: int
    k: int
    n: int
    transposed: str
    """'' for activations x weights, 'left' for the weights' gradient, 'right' for the inputs' gradient."""

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.k * self.n


def products_of_a_step(batch: int, inputs: int, layers: Sequence[int]) -> list[Product]:
    """Forward and backward through the Dense layers; nobody needs the gradient of the first layer's input."""
    widths = [inputs, *layers]
    pairs = list(pairwise(widths))
    forward = [Product(batch, wide, units, "") for wide, units in pairs]
    weights = [Product(wide, batch, units, "left") for wide, units in reversed(pairs)]
    back = [Product(batch, units, wide, "right") for wide, units in reversed(pairs[1:])]
    return forward + weights + back


def steps_of_an_epoch(rows: int, batch: int) -> list[tuple[int, int]]:
    """(how many steps, with how many rows): whole batches, and the smaller one at the end."""
    whole, rest = divmod(rows, batch)
    return [(count, size) for count, size in ((whole, batch), (1, rest)) if count and size]


def operations_of_an_epoch(rows: int, batch: int, inputs: int, layers: Sequence[int]) -> int:
    """Multiplications and additions in all products of an epoch."""
    return sum(
        count * product.operations
        for count, size in steps_of_an_epoch(rows, batch)
        for product in products_of_a_step(size, inputs, layers)
    )

"""The matrix products of an epoch by torch.mm."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.contenders.products import repeat
from benchmarks.contenders.turns import take_part
from benchmarks.limit import Product


def _call(product: Product) -> Callable[[], Any]:
    left, right = torch.rand(product.m, product.k), torch.rand(product.k, product.n)
    if product.transposed == "left":
        left = left.T.contiguous().T
    if product.transposed == "right":
        right = right.T.contiguous().T
    return partial(torch.mm, left, right, out=torch.empty(product.m, product.n))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    take_part(
        partial(repeat, call_of=_call, set_threads=torch.set_num_threads),
        lambda: {"torch": torch.__version__},
    )

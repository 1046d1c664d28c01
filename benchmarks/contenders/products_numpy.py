"""The matrix products of an epoch by NumPy's BLAS."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.contenders.products import repeat
from benchmarks.contenders.turns import take_part
from benchmarks.limit import Product


def _call(product: Product) -> Callable[[], Any]:
    random = np.random.default_rng(1)
    left = random.random((product.m, product.k), np.float32)
    right = random.random((product.k, product.n), np.float32)
    if product.transposed == "left":
        left = np.ascontiguousarray(left.T).T
    if product.transposed == "right":
        right = np.ascontiguousarray(right.T).T
    return partial(np.matmul, left, right, np.empty((product.m, product.n), np.float32))


if __name__ == "__main__":
    take_part(
        partial(repeat, call_of=_call, set_threads=threadpool_limits), lambda: {"numpy": np.__version__}
    )

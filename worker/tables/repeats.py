"""Rows that are in the training and in the sealed part alike: what was learned by heart is found again."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE: Final = 4096


def repeats(train: list[NDArray[Any]], test: list[NDArray[Any]]) -> list[tuple[int, int]]:
    """Pairs (test row, first training row that equals it in every array), in the order of test rows."""
    train_keys, test_keys = _keys(train), _keys(test)
    order = np.argsort(train_keys, kind="stable")
    ordered = train_keys[order]
    places = np.minimum(np.searchsorted(ordered, test_keys), len(ordered) - 1)
    rows = np.flatnonzero(ordered[places] == test_keys) if len(ordered) else np.arange(0)
    others = order[places[rows]]
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        equal = np.ones(len(rows[block]), bool)
        for one, other in zip(test, train, strict=True):
            same = one[rows[block]] == other[others[block]]
            equal &= same.reshape(len(same), -1).all(axis=1)
        pairs += zip(rows[block][equal].tolist(), others[block][equal].tolist(), strict=True)
    return pairs


def _keys(arrays: list[NDArray[Any]]) -> NDArray[np.uint64]:
    """A number for each row that equal rows share; by fixed random weights, modulo 2^64."""
    keys = np.zeros(len(arrays[0]), np.uint64)
    random = np.random.RandomState(20)
    for array in arrays:
        weights = random.randint(0, 2**64, _words(array[:0]).shape[1], np.uint64)
        for start in range(0, len(array), _ROWS_AT_ONCE):
            words = _words(array[start : start + _ROWS_AT_ONCE])
            keys[start : start + len(words)] += (words * weights).sum(axis=1, dtype=np.uint64)
    return keys


def _words(rows: NDArray[Any]) -> NDArray[np.uint64]:
    # Adding 0 turns -0.0 into 0.0, which equals it.
    width = math.prod(rows.shape[1:])
    flat = np.ascontiguousarray(rows.reshape(len(rows), width) + rows.dtype.type(0))
    data = flat.view(np.uint8).reshape(len(flat), width * rows.dtype.itemsize)
    padded = np.zeros((len(data), -(-data.shape[1] // 8) * 8), np.uint8)
    padded[:, : data.shape[1]] = data
    return padded.view(np.uint64)

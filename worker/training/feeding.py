"""How rows come to the device: a whole table that stays there, or stretch after stretch of a larger one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from worker.training.data import Array, RowIds, Table

PARTS_IN_FLIGHT = 3
"""Of a streamed table: one stretch is trained on, one waits for the device, one is being gathered."""


@dataclass(frozen=True)
class Stretch:
    """Columns on the device, and the ids of their rows in `steps` batches: int32 (at least steps, batch)."""

    columns: tuple[Any, ...]
    batches: Any
    steps: int


LEAST_STEPS = 2
"""In a stretch: XLA compiles a loop over one batch as no loop, which rounds otherwise."""

Signature = tuple[tf.TensorSpec, ...]
"""The columns of any number of rows."""


class Feed(Protocol):
    """Rows of a table as engines take them. Columns are x, y and, where rows have weights, the weights."""

    @property
    def unweighted(self) -> "Feed":
        """The same rows without weights."""
        ...

    @property
    def signature(self) -> Signature:
        """Shapes and types of the columns."""
        ...

    def stretches(self, batches: RowIds) -> Iterator[Stretch]:
        """The rows of a matrix (steps, batch) in their order; every stretch of a call has the same shapes."""
        ...

    def batches(self, rows: RowIds, size: int) -> Iterator[tuple[Any, ...]]:
        """The rows in their order, `size` at once; the last batch may be smaller."""
        ...


@dataclass(frozen=True)
class OnDevice:
    """A table as tensors on the device; whole numbers keep their type, other floats become float32."""

    x: Any
    y: Any
    weights: Any = None
    """One float32 a row, or None."""

    @cached_property
    def columns(self) -> tuple[Any, ...]:
        """What a training step takes."""
        return (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights)

    @cached_property
    def unweighted(self) -> "OnDevice":
        """The same tensors without weights."""
        return replace(self, weights=None)

    @cached_property
    def signature(self) -> Signature:
        """Shapes and types of the columns."""
        return signature_of(self.columns)

    def stretches(self, batches: RowIds) -> Iterator[Stretch]:
        """One stretch: all is there."""
        if len(batches):
            yield Stretch(self.columns, tf.constant(batches, tf.int32), len(batches))

    def batches(self, rows: RowIds, size: int) -> Iterator[tuple[Any, ...]]:
        """Batches gathered on the device."""
        for first in range(0, len(rows), size):
            ids = tf.constant(rows[first : first + size], tf.int32)
            yield tuple(tf.gather(column, ids) for column in self.columns)


@dataclass(frozen=True)
class Streamed:
    """A table that stays in its files; about `budget` bytes of it are on their way at once."""

    table: Table
    weights: Array | None
    budget: int

    @cached_property
    def unweighted(self) -> "Streamed":
        """The same files without weights."""
        return replace(self, weights=None)

    @cached_property
    def signature(self) -> Signature:
        """Shapes and types of the columns."""
        return signature_of([storable(column[:0]) for column in self._columns])

    def stretches(self, batches: RowIds) -> Iterator[Stretch]:
        """As many batches at once as the budget allows; the next ones are gathered meanwhile."""
        if not len(batches):
            return
        size = batches.shape[1]
        steps = min(len(batches), self.steps_at_once(size))
        ids = tf.reshape(tf.range(steps * size), (steps, size))
        columns_of_stretches = self.batches(batches.reshape(-1), steps * size)
        for first, columns in zip(range(0, len(batches), steps), columns_of_stretches, strict=True):
            # What the last one lacks is filled up, so that one compiled program serves all.
            missing = steps * size - len(columns[0])
            padded = columns if not missing else tuple(_padded(column, missing) for column in columns)
            yield Stretch(padded, ids, min(steps, len(batches) - first))

    def steps_at_once(self, batch_size: int) -> int:
        """Batches in one stretch."""
        row_bytes = sum(storable(column[:1]).nbytes for column in self._columns)
        return max(LEAST_STEPS, self.budget // PARTS_IN_FLIGHT // (batch_size * row_bytes))

    def batches(self, rows: RowIds, size: int) -> Iterator[tuple[Any, ...]]:
        """Batches gathered from the files, one ahead."""
        parts = tf.data.Dataset.from_generator(
            lambda: (self._gathered(rows[i : i + size]) for i in range(0, len(rows), size)),
            output_signature=self.signature,
        )
        yield from parts.prefetch(1)

    def _gathered(self, rows: RowIds) -> tuple[Array, ...]:
        return tuple(storable(column[rows]) for column in self._columns)

    @cached_property
    def _columns(self) -> tuple[Array, ...]:
        own = (self.table.x, self.table.y)
        return own if self.weights is None else (*own, self.weights)


def feed(table: Table, weights: Array | None = None, *, budget: int | None = None) -> OnDevice | Streamed:
    """The table on the device, or streamed where it is larger than the budget in bytes; None: no bound."""
    if budget is not None and _bytes_of(table) > budget:
        return Streamed(table, weights, budget)
    return OnDevice(_tensor(table.x), _tensor(table.y), None if weights is None else _tensor(weights))


def signature_of(columns: Iterable[Any]) -> Signature:
    """Shapes and types of columns of any number of rows."""
    return tuple(tf.TensorSpec([None, *column.shape[1:]], column.dtype) for column in columns)


def storable(array: Array) -> Array:
    """As tables are put on a device: whole numbers keep their type, other floats become float32."""
    return np.asarray(array, np.float32 if array.dtype.kind == "f" else None)


def _bytes_of(table: Table) -> int:
    return sum(len(array) * storable(array[:1]).nbytes for array in (table.x, table.y))


def _tensor(array: Array) -> Any:
    if isinstance(array, np.memmap) and _can_be_shared(array):
        # The pages of the file are the tensor: trainers on one CPU share them, and nothing is copied.
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.convert_to_tensor(storable(array))


def _can_be_shared(array: Array) -> bool:
    is_aligned = array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % 64 == 0
    is_ready = array.dtype in (np.uint8, np.int32, np.int64, np.float32) and array.size > 0
    return bool(is_aligned and is_ready and not tf.config.list_logical_devices("GPU"))


def _padded(column: Any, missing: int) -> Any:
    return tf.concat([column, tf.repeat(column[:1], missing, axis=0)], axis=0)

"""How rows come to the device: a whole table that stays there, or stretch after stretch of a larger one."""

from collections.abc import Iterator
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


class Feed(Protocol):
    """Rows of a table as engines take them. Columns are x, y and, where rows have weights, the weights."""

    @property
    def unweighted(self) -> "Feed":
        """The same rows without weights."""
        ...

    def stretches(self, batches: RowIds) -> Iterator[Stretch]:
        """The rows of a matrix (steps, batch) in their order; every stretch of a call has the same shapes."""
        ...

    def batches(self, rows: RowIds, batch_size: int) -> tf.data.Dataset:
        """The rows in their order, the last batch smaller where they do not divide."""
        ...

    def inputs(self, rows: RowIds) -> Any:
        """x of these rows."""
        ...


@dataclass(frozen=True)
class OnDevice:
    """A table as tensors on the device; whole numbers keep their type, other floats become float32."""

    x: Any
    y: Any
    weights: Any = None
    """One float32 a row, or None."""

    @property
    def columns(self) -> tuple[Any, ...]:
        """What a training step takes."""
        return (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights)

    @property
    def unweighted(self) -> "OnDevice":
        """The same tensors without weights."""
        return replace(self, weights=None)

    def stretches(self, batches: RowIds) -> Iterator[Stretch]:
        """One stretch: all is there."""
        yield Stretch(self.columns, tf.constant(batches, tf.int32), len(batches))

    def batches(self, rows: RowIds, batch_size: int) -> tf.data.Dataset:
        """Batches gathered on the device."""
        ids = tf.data.Dataset.from_tensor_slices(rows.astype(np.int32)).batch(batch_size)
        return ids.map(lambda these: tuple(tf.gather(column, these) for column in self.columns)).prefetch(1)

    def inputs(self, rows: RowIds) -> Any:
        """x of these rows."""
        return tf.gather(self.x, rows)


@dataclass(frozen=True)
class Streamed:
    """A table that stays in its files; at most `budget` bytes of it are on their way at once."""

    table: Table
    weights: Array | None
    budget: int

    @property
    def unweighted(self) -> "Streamed":
        """The same files without weights."""
        return replace(self, weights=None)

    def stretches(self, batches: RowIds) -> Iterator[Stretch]:
        """As many batches at once as the budget allows; the next ones are gathered meanwhile."""
        if not len(batches):
            return
        size = batches.shape[1]
        steps = min(len(batches), self.steps_at_once(size))
        ids = tf.reshape(tf.range(steps * size), (steps, size))
        stretches = self._prefetched(batches[i : i + steps] for i in range(0, len(batches), steps))
        for first, columns in zip(range(0, len(batches), steps), stretches, strict=True):
            # What the last one lacks is filled up, so that one compiled program serves all.
            missing = steps * size - len(columns[0])
            padded = columns if not missing else tuple(_padded(column, missing) for column in columns)
            yield Stretch(padded, ids, min(steps, len(batches) - first))

    def steps_at_once(self, batch_size: int) -> int:
        """Batches in one stretch."""
        return max(1, self.budget // PARTS_IN_FLIGHT // (batch_size * self._row_bytes))

    def batches(self, rows: RowIds, batch_size: int) -> tf.data.Dataset:
        """Batches gathered from the files, one ahead."""
        return self._prefetched(rows[i : i + batch_size] for i in range(0, len(rows), batch_size))

    def inputs(self, rows: RowIds) -> Any:
        """x of these rows."""
        return tf.constant(storable(self.table.x[rows]))

    def _prefetched(self, parts: Iterator[RowIds]) -> tf.data.Dataset:
        waiting = list(parts)
        signature = tuple(
            tf.TensorSpec([None, *column.shape[1:]], storable(column[:0]).dtype) for column in self._columns
        )
        return tf.data.Dataset.from_generator(
            lambda: (self._gathered(rows) for rows in waiting), output_signature=signature
        ).prefetch(1)

    def _gathered(self, rows: RowIds) -> tuple[Array, ...]:
        return tuple(storable(column[rows.reshape(-1)]) for column in self._columns)

    @cached_property
    def _columns(self) -> tuple[Array, ...]:
        own = (self.table.x, self.table.y)
        return own if self.weights is None else (*own, self.weights)

    @property
    def _row_bytes(self) -> int:
        return sum(storable(column[:1]).nbytes for column in self._columns)


def feed(table: Table, weights: Array | None = None, *, budget: int | None = None) -> OnDevice | Streamed:
    """The table on the device, or streamed where it is larger than the budget in bytes; None: no bound."""
    if budget is not None and _bytes_of(table) > budget:
        return Streamed(table, weights, budget)
    return OnDevice(_tensor(table.x), _tensor(table.y), None if weights is None else _tensor(weights))


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

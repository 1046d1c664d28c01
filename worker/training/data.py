"""The data of a job: memory-mapped arrays, and which of their rows are for training and for validation."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.schema import DatasetSchema, Task
from services.spec import CountedRows, FractionOfRows, LastRows, SplitSpec
from worker.training.problems import BadData

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]


class Watched:
    """The files of a table as they were when they were opened; a dataset version never changes."""

    def __init__(self, folder: Path) -> None:
        self._files = {path: _identity(path) for path in sorted(folder.glob("*.npy"))}

    def check(self) -> None:
        """Raises BadData if a file was changed, replaced or removed meanwhile."""
        for path, identity in self._files.items():
            if _identity(path) != identity:
                name = f"{path.parent.name}/{path.name}"
                raise BadData(f"The file {name} of the dataset was changed while the job read it.")


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Table:
    """Inputs and targets of one stored part, row by row, as stored."""

    x: Array
    y: Array
    w: Array | None = None
    """The dataset's own weight of each row, float32; None where it has none."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Cut:
    """Which unsealed rows are for training and which for validation."""

    train: RowIds
    validation: RowIds


def open_unsealed(folder: Path, schema: DatasetSchema) -> Table:
    """The rows that training and validation are cut from; the sealed part is not touched."""
    return _opened(folder / "train", schema, schema.rows.train)


def open_sealed(folder: Path, schema: DatasetSchema) -> Table:
    """The test split. Only an evaluation that was asked for by name calls this."""
    return _opened(folder / "test", schema, schema.rows.test)


def _opened(folder: Path, schema: DatasetSchema, rows: int) -> Table:
    has_weights = schema.weight is not None and folder.name == "train"
    table = Table(
        _mapped(folder / "x.npy"),
        _mapped(folder / "y.npy"),
        _mapped(folder / "w.npy") if has_weights else None,
    )
    expected = ((rows, *schema.features.shape), (rows, *schema.target.shape))
    if (table.x.shape, table.y.shape) != expected:
        raise BadData(
            f"The {folder.name} part of dataset {schema.name} holds arrays of shape {table.x.shape} and "
            f"{table.y.shape}; its schema says {expected[0]} and {expected[1]}."
        )
    if table.w is not None and table.w.shape != (rows,):
        raise BadData(f"Dataset {schema.name} has {table.w.shape} weights for {rows} training rows.")
    _check_class_ids(table.y, schema)
    return table


def _mapped(path: Path) -> Array:
    try:
        # Copy on write: the pages are shared by all trainers, and a tensor may be made of them.
        array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadData(
            f"{path.parent.name}/{path.name} of the dataset is not a readable npy file: {error}."
        ) from error
    return array


def _check_class_ids(y: Array, schema: DatasetSchema) -> None:
    classes = schema.target.classes
    has_ids = schema.task in (Task.BINARY, Task.MULTICLASS) and math.prod(schema.target.shape) == 1
    if classes is None or not has_ids or not len(y):
        return
    low, high = y.min(), y.max()
    if not (low >= 0 and high < classes):
        raise BadData(
            f"Class ids of dataset {schema.name} go from {low} to {high}; it has {classes} classes."
        )


def cut(table: Table, split: SplitSpec, seed: int) -> Cut:
    """Cut validation from the unsealed rows as the spec says; `seed` is for a split without its own."""
    rows = len(table)
    way = split.validation
    if not rows:
        raise BadData("The dataset has no rows to train on.")
    if way is None:
        return Cut(np.arange(rows), np.arange(0))
    count = way.rows(rows)
    if not 0 < count < rows:
        raise BadData(f"{count} validation rows cannot be cut from {rows} rows and leave some to train on.")
    if isinstance(way, LastRows):
        return Cut(np.arange(rows - count), np.arange(rows - count, rows))
    return drawn(table.y, way, count, seed if way.seed is None else way.seed)


def drawn(y: Array, way: CountedRows | FractionOfRows, count: int, seed: int) -> Cut:
    """Rows drawn at random: the same ones, in the same order, as scikit-learn's train_test_split draws.

    https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.train_test_split.html
    """
    random = np.random.RandomState(seed)
    if way.stratify:
        return _stratified(y, count, random)
    order = random.permutation(len(y))
    return Cut(order[count:], order[:count])


def _stratified(y: Array, count: int, random: np.random.RandomState) -> Cut:
    """Each class, or combination of labels, keeps its share; drawn in StratifiedShuffleSplit's order."""
    kinds = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(kinds)
    if sizes.min() < 2:
        raise BadData("A stratified split needs at least two rows of each class.")
    if min(count, len(y) - count) < len(sizes):
        raise BadData(f"A stratified split needs {len(sizes)} rows on each side, one for each class.")
    train_sizes = _shares(sizes, len(y) - count, random)
    validation_sizes = _shares(sizes - train_sizes, count, random)
    ends = np.cumsum(sizes)[:-1]
    train, validation = [], []
    for rows, first, second in zip(
        np.split(np.argsort(kinds, kind="stable"), ends), train_sizes, validation_sizes, strict=True
    ):
        shuffled = rows[random.permutation(len(rows))]
        train.append(shuffled[:first])
        validation.append(shuffled[first : first + second])
    return Cut(random.permutation(np.concatenate(train)), random.permutation(np.concatenate(validation)))


def _shares(sizes: RowIds, total: int, random: np.random.RandomState) -> RowIds:
    """`total` rows over classes by size; what rounding leaves goes to the largest remainders, ties by lot."""
    exact = sizes / sizes.sum() * total
    shares = np.floor(exact)
    remainders = exact - shares
    left = int(total - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if left == 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        lucky = random.choice(tied, size=min(len(tied), left), replace=False)
        shares[lucky] += 1
        left -= len(lucky)
    return shares.astype(np.int64)


def weights_of(table: Table, class_weights: dict[int, float] | None) -> npt.NDArray[np.float32] | None:
    """What each row weighs in the loss: its own weight times its class's; None where all weigh the same."""
    by_class = None if class_weights is None else class_weights_of(table.y, class_weights)
    own = None if table.w is None else np.asarray(table.w, np.float32)
    if by_class is None or own is None:
        return by_class if own is None else own
    return own * by_class


def class_weights_of(y: Array, weights: dict[int, float]) -> npt.NDArray[np.float32]:
    """The weight of each row. One-hot targets count as the id of their largest column, as in Keras."""
    ids = np.argmax(y, axis=-1) if y.ndim == 2 and y.shape[1] > 1 else np.asarray(y).reshape(len(y))
    by_id = np.array([weights.get(i, 1.0) for i in range(max(weights) + 1)], np.float32)
    return by_id[ids.astype(np.int64)]


def has_only_finite_inputs(table: Table) -> bool:
    """Whether no input and no target is NaN or infinite."""
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in (table.x, table.y))

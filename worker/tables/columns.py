"""Values of a table by column, as they were read, and how they become inputs. NumPy only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.schema import Column
from services.spelling import composed

NO_TEXT: Final = -1
"""The code of a missing text."""
NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
"""How a number is written."""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, float64; NaN where a value is missing or could not be read."""

    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """Which rows have no value."""
        return np.isnan(self.values)

    def take(self, rows: NDArray[np.int64]) -> "Numbers":
        """These rows."""
        return Numbers(self.values[rows])


@dataclass(frozen=True)
class Texts:
    """A column of texts: `texts[codes[row]]`, each text once; the code is -1 where a value is missing."""

    codes: NDArray[np.int32]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """Which rows have no value."""
        return np.equal(self.codes, NO_TEXT)

    def take(self, rows: NDArray[np.int64]) -> "Texts":
        """These rows; texts that none of them has stay in the list."""
        return Texts(self.codes[rows], self.texts)

    def counts(self) -> dict[str, int]:
        """How many rows have each text, for the texts that are there."""
        counted = np.bincount(self.codes[~self.is_missing], minlength=len(self.texts))
        return {text: int(count) for text, count in zip(self.texts, counted, strict=True) if count}

    def recoded(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Each row's place in `names`; -1 for a text that is not among them, and for a missing one."""
        places = {name: place for place, name in enumerate(names)}
        table = np.array([*(places.get(text, NO_TEXT) for text in self.texts), NO_TEXT], np.int64)
        return table[self.codes]


Values = Numbers | Texts


def inputs_of(columns: Sequence[Column], values: Mapping[str, Values]) -> NDArray[np.float64]:
    """The inputs of a table, float64 (rows, inputs): missing values filled in, categories one-hot.

    A missing value of a column that has no `impute` stays NaN, or all zeros in a categorical column.
    """
    rows = len(values[columns[0].name])
    inputs = np.zeros((rows, width_of(columns)))
    place = 0
    for column in columns:
        width = width_of([column])
        _fill(inputs[:, place : place + width], column, values[column.name])
        place += width
    return inputs


def width_of(columns: Sequence[Column]) -> int:
    """How many inputs are made of these columns."""
    return sum(1 if column.categories is None else len(column.categories) for column in columns)


def names_of_inputs(columns: Sequence[Column]) -> list[str]:
    """One name an input: the column's, or `column=category`."""
    return [
        name
        for column in columns
        for name in (
            [column.name]
            if column.categories is None
            else [f"{column.name}={category}" for category in column.categories]
        )
    ]


def _fill(block: NDArray[np.float64], column: Column, values: Values) -> None:
    if isinstance(values, Numbers):
        block[:, 0] = values.values
        if column.impute is not None:
            block[values.is_missing, 0] = column.impute
        return
    categories = column.categories or []
    ids = values.recoded(categories)
    if column.impute in categories:
        ids[values.is_missing] = categories.index(str(column.impute))
    rows = np.flatnonzero(ids != NO_TEXT)
    block[rows, ids[rows]] = 1.0


def cast(values: NDArray[Any], dtype: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The values in the stored dtype, and where it cannot hold them: too large, not finite, or not whole."""
    kind = np.dtype(dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        made = values.astype(kind)
        if kind.kind == "f":
            return made, ~np.isfinite(made)
        limits = np.iinfo(kind)
        return made, ~((values >= limits.min) & (values <= limits.max) & (np.floor(values) == values))


def text_of(value: object) -> str:
    """A value as a category or a class: `1` for 1 and for 1.0, `true` for True."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return composed(str(value).strip())

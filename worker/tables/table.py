"""A table as it was read: columns by name, and where each row stood."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worker.tables.columns import Numbers, Texts, Values

Kind = Literal["numbers", "texts"]
Choose = Callable[[Sequence[str]], Mapping[str, Kind]]
"""Gets a file's column names; gives those to be read, and as what. Problems go to the findings."""


@dataclass(frozen=True)
class Table:
    """Columns that were read, each with one value a row. A number that could not be read is infinite."""

    columns: Mapping[str, Values]
    lines: NDArray[np.int64]
    """The line of a text file at which each row begins, 1 is the first; otherwise the row's number."""

    def __len__(self) -> int:
        return len(self.lines)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """The values of a column that was chosen as numbers."""
        column = self.columns[name]
        assert isinstance(column, Numbers)
        return column.values

    def texts(self, name: str) -> Texts:
        """A column that was chosen as texts."""
        column = self.columns[name]
        assert isinstance(column, Texts)
        return column

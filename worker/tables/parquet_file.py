"""Reads the chosen columns of a Parquet file, a batch of rows at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.spelling import composed
from worker.tables.cells import MOST_TEXTS, texts_of
from worker.tables.columns import NO_TEXT, NUMBER, Numbers, Values, text_of
from worker.tables.csv_file import check_names
from worker.tables.findings import Findings, check_name
from worker.tables.parquet_types import can_be, in_words
from worker.tables.table import Choose, Kind, Table

BATCH_ROWS: Final = 65_536
# Values that are kept in memory at once, eight bytes each: a part of what the child may use.
MOST_VALUES: Final = 150_000_000


def read_parquet(path: Path, choose: Choose, missing: Sequence[str], findings: Findings) -> Table:
    """The chosen columns; raises FileRefused where nothing can be read."""
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            return _read(file, choose, frozenset(missing), findings)
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        message = f"The file begins as Parquet and cannot be read: {first}."
        raise findings.refuse("damaged_file", message, expected="a whole Parquet file") from None


def _read(file: Any, choose: Choose, missing: frozenset[str], findings: Findings) -> Table:
    written = list(file.schema_arrow.names)
    names = [composed(name) for name in written]
    check_names(names, findings)
    kinds = choose(names)
    spelled = dict(zip(names, written, strict=True))
    places = {name: spelled[name] for name in kinds}
    rows = file.metadata.num_rows
    if rows == 0:
        raise findings.refuse("no_rows", "The file has columns and no rows.", expected="rows of data")
    if rows * max(1, len(kinds)) > MOST_VALUES:
        message = f"The file holds {rows:,} rows of {len(kinds)} columns."
        wanted = f"at most {MOST_VALUES:,} values; fewer columns in `features`"
        raise findings.refuse("too_large", message, received=rows, expected=wanted)
    columns = {
        name: _Column(name, kind, file.schema_arrow.field(places[name]).type, missing, findings)
        for name, kind in kinds.items()
    }
    findings.check()
    for batch in file.iter_batches(BATCH_ROWS, columns=list(places.values()), use_threads=False):
        for name, column in columns.items():
            column.add(batch.column(batch.schema.names.index(places[name])))
    return Table({name: column.column() for name, column in columns.items()}, np.arange(1, rows + 1))


class _Column:
    """One column while it is read; refuses a type that is not of its kind."""

    def __init__(
        self, name: str, kind: Kind, type_: Any, missing: frozenset[str], findings: Findings
    ) -> None:
        self._name = name
        self._kind = kind
        self._missing = missing
        self._missing_numbers = [float(text) for text in missing if NUMBER.fullmatch(text)]
        self._findings = findings
        self._rows = 0
        self._codes: dict[str, int] = {}
        self._blocks: list[NDArray[Any]] = []
        if not can_be(type_, kind):
            held, wanted = in_words(type_, kind)
            message = f"`{name}` holds {held} where {'numbers' if kind == 'numbers' else 'names'} are needed."
            findings.add("wrong_type", message, column=name, received=held, expected=wanted)

    def add(self, array: Any) -> None:
        """Take a batch."""
        self._blocks.append(self._numbers(array) if self._kind == "numbers" else self._texts(array))
        self._rows += len(array)

    def column(self) -> Values:
        """All that was read."""
        if self._kind == "numbers":
            return Numbers(np.concatenate(self._blocks))
        return texts_of(self._name, np.concatenate(self._blocks), list(self._codes), self._findings)

    def _numbers(self, array: Any) -> NDArray[np.float64]:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        # NaN is how pandas writes that there is no value.
        is_missing = array.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_decimal(array.type):
            array = array.cast(pa.float64())
        values = np.where(is_missing, np.nan, _filled(array).astype(np.float64))
        if self._missing_numbers:
            values[np.isin(values, self._missing_numbers)] = np.nan
        for place in np.flatnonzero(np.isinf(values))[:1]:
            self._findings.add(
                "not_finite",
                f"`{self._name}` holds numbers that are not finite.",
                line=self._rows + int(place) + 1,
                column=self._name,
                received=float(values[place]),
                expected="finite numbers",
                count=int(np.isinf(values).sum()),
            )
        return values

    def _texts(self, array: Any) -> NDArray[np.int32]:
        # Arrow makes no dictionary of these.
        if pa.types.is_float16(array.type):
            array = array.cast(pa.float32())
        elif pa.types.is_string_view(array.type):
            array = array.cast(pa.string())
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        table = np.array(
            [*(self._code(value) for value in encoded.dictionary.to_pylist()), NO_TEXT], np.int32
        )
        places: NDArray[Any] = encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
        codes: NDArray[np.int32] = table[places]
        return codes

    def _code(self, value: object) -> int:
        text = text_of(value)
        if value is None or value != value or text in self._missing:
            return NO_TEXT
        check_name(text, self._findings, column=self._name)
        if len(self._codes) > MOST_TEXTS:
            return 0
        return self._codes.setdefault(text, len(self._codes))


def _filled(array: Any) -> NDArray[Any]:
    values: NDArray[Any] = array.fill_null(False if pa.types.is_boolean(array.type) else 0).to_numpy(
        zero_copy_only=False
    )
    return values

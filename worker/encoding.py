"""Rows as people send them, in JSON, become a model's inputs. NumPy only."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.answers import DataProblem
from services.schema import Column, DatasetSchema
from services.spelling import composed
from services.wording import nearest, shown
from worker.tables.columns import NO_TEXT, Numbers, Texts, Values, cast, inputs_of, width_of

MOST_PROBLEMS: Final = 100
NUMBER: Final = "a number"


class RowsInvalid(Exception):
    """Rows are not what the model takes; `problems` has the places, `line` is the row's number from 1."""

    def __init__(self, problems: Sequence[DataProblem]) -> None:
        self.problems = tuple(problems[:MOST_PROBLEMS])
        super().__init__("\n".join(f"row {item.line}: {item.message}" for item in self.problems))


def encode_rows(schema: DatasetSchema, rows: Sequence[object]) -> NDArray[Any]:
    """The inputs of these rows: (rows, *schema.features.shape) in schema.features.dtype.

    A row is an object by column name, or a (nested) list in the features' order. For a table with columns
    the list has one raw value a column, or one encoded value an input where that is another number of
    values. A category that the training rows did not have gives zeros; None is a missing value. Raises
    RowsInvalid.
    """
    problems: list[DataProblem] = []
    columns = columns_of(schema)
    inputs = _from_arrays(schema, rows, problems) if columns is None else None
    if columns is not None:
        inputs = _from_table(schema, columns, rows, problems)
    if problems or inputs is None:
        raise RowsInvalid(problems)
    made, is_bad = cast(inputs, schema.features.dtype)
    if is_bad.any():
        raise RowsInvalid(_unstorable(schema, columns, inputs, is_bad))
    return made


def unknown_categories(schema: DatasetSchema, inputs: NDArray[Any]) -> list[DataProblem]:
    """Categorical columns in which rows have a value that no training row had: all of its inputs are zero."""
    noticed, place = [], 0
    for column in schema.features.columns or []:
        width = 1 if column.categories is None else len(column.categories)
        block = inputs[:, place : place + width]
        place += width
        lines = np.flatnonzero(~block.any(axis=1)) + 1
        if column.categories is not None and len(lines):
            message = f"`{column.name}` has a value that no training row had; the model is told none."
            problem = _problem("unknown_category", int(lines[0]), message, None, _wanted(column), column.name)
            noticed.append(problem.model_copy(update={"count": len(lines)}))
    return noticed


def columns_of(schema: DatasetSchema) -> list[Column] | None:
    """The columns of a table, those of the catalogue included; None for arrays."""
    features = schema.features
    if features.columns is not None or features.names is None:
        return features.columns
    return [Column(name=name, kind="numeric") for name in features.names]


def _from_arrays(
    schema: DatasetSchema, rows: Sequence[object], problems: list[DataProblem]
) -> NDArray[Any] | None:
    arrays = [_array_of(schema.features.shape, row, line, problems) for line, row in enumerate(rows, 1)]
    if not arrays:
        return np.zeros((0, *schema.features.shape))
    return np.stack([array for array in arrays if array is not None]) if not problems else None


def _array_of(
    shape: tuple[int, ...], row: object, line: int, problems: list[DataProblem]
) -> NDArray[Any] | None:
    wanted = f"numbers in {'nested lists' if len(shape) > 1 else 'a list'} of shape {list(shape)}"
    if isinstance(row, Mapping):
        problems.append(_problem("wrong_type", line, "The inputs have no names.", "an object", wanted))
        return None
    try:
        array = np.asarray(row)
    except ValueError:
        problems.append(_problem("wrong_shape", line, "The lists differ in length.", None, wanted))
        return None
    if array.dtype.kind not in "biuf":
        message = "A value is missing, or is no number."
        problems.append(_problem("not_a_number", line, message, _first_stray(row), wanted))
        return None
    if array.shape != shape:
        message = f"The values have the shape {list(array.shape)}."
        problems.append(_problem("wrong_shape", line, message, list(array.shape), wanted))
        return None
    return array.astype(np.float64)


def _first_stray(row: object) -> object:
    if isinstance(row, Sequence) and not isinstance(row, str):
        return next((stray for value in row if (stray := _first_stray(value)) is not _FINE), _FINE)
    return _FINE if isinstance(row, int | float) else shown(row)


_FINE: Final = object()


def _from_table(
    schema: DatasetSchema, columns: list[Column], rows: Sequence[object], problems: list[DataProblem]
) -> NDArray[np.float64]:
    width = width_of(columns)
    encoded = {
        line
        for line, row in enumerate(rows, 1)
        if width != len(columns) and _is_list(row) and len(row) == width  # type: ignore[arg-type]
    }
    raw = [
        _raw_values(schema, columns, row, line, problems)
        for line, row in enumerate(rows, 1)
        if line not in encoded
    ]
    lines = [line for line in range(1, len(rows) + 1) if line not in encoded]
    values: dict[str, Values] = {
        column.name: _column_values(column, [row[place] for row in raw], lines, problems)
        for place, column in enumerate(columns)
    }
    inputs = np.zeros((len(rows), width))
    inputs[[line - 1 for line in lines]] = inputs_of(columns, values)
    for line in sorted(encoded):
        array = _array_of((width,), rows[line - 1], line, problems)
        inputs[line - 1] = 0.0 if array is None else array
    return inputs


def _is_list(row: object) -> bool:
    return isinstance(row, np.ndarray) or (isinstance(row, Sequence) and not isinstance(row, str | bytes))


# Stands for a value whose absence was reported already.
_REPORTED: Final = object()


def _raw_values(
    schema: DatasetSchema, columns: list[Column], row: object, line: int, problems: list[DataProblem]
) -> list[object]:
    if isinstance(row, Mapping):
        return _by_name(schema, columns, row, line, problems)
    if _is_list(row) and len(row) == len(columns):  # type: ignore[arg-type]
        return list(row)  # type: ignore[call-overload, no-any-return]
    names = ", ".join(column.name for column in columns)
    wanted = f"an object by column name, or a list of {len(columns)} values: {names}"
    if _is_list(row):
        count = len(row)  # type: ignore[arg-type]
        problems.append(_problem("wrong_shape", line, f"The row has {count} values.", count, wanted))
    else:
        problems.append(_problem("wrong_type", line, "This is no row.", shown(row), wanted))
    return [_REPORTED] * len(columns)


def _by_name(
    schema: DatasetSchema,
    columns: list[Column],
    row: Mapping[Any, object],
    line: int,
    problems: list[DataProblem],
) -> list[object]:
    row = {composed(name) if isinstance(name, str) else name: value for name, value in row.items()}
    names = [column.name for column in columns]
    known = {*names, *schema.target.names}
    for name in row:
        # Looking for the nearest name takes its time, and nobody reads the thousandth.
        if name not in known and len(problems) < MOST_PROBLEMS:
            problems.append(_unknown_column(str(name), names, line))
    for column in columns:
        if column.name not in row:
            message = f"The row has no `{column.name}`."
            wanted = "null for a missing value" if column.impute is not None else _wanted(column)
            problems.append(_problem("missing_column", line, message, None, wanted, column.name))
    return [row.get(name, _REPORTED) for name in names]


def _unknown_column(name: str, names: list[str], line: int) -> DataProblem:
    close = nearest(name, names)
    message = f"There is no column `{shown(name)}`." + (f" Did you mean `{close}`?" if close else "")
    return _problem("unknown_column", line, message, shown(name), f"one of: {', '.join(names)}", name)


def _column_values(
    column: Column, values: list[object], lines: list[int], problems: list[DataProblem]
) -> Values:
    read = _text_code if column.kind == "categorical" else _number
    made = []
    for value, line in zip(values, lines, strict=True):
        problem = _missing(column, line) if value is None and column.impute is None else None
        number, complaint = (math.nan, None) if value is _REPORTED else read(column, value)
        if problem is None and complaint is not None:
            problem = _problem(complaint[0], line, complaint[1], shown(value), _wanted(column), column.name)
        if problem is not None:
            problems.append(problem)
        made.append(number)
    if column.kind == "categorical":
        codes = np.array([NO_TEXT if math.isnan(code) else code for code in made], np.int32)
        return Texts(codes, [*(column.categories or []), ""])
    return Numbers(np.array(made, np.float64))


def _missing(column: Column, line: int) -> DataProblem:
    message = f"`{column.name}` is missing, and the training rows had no rule for missing values."
    return _problem("missing_value", line, message, None, _wanted(column), column.name)


def _number(column: Column, value: object) -> tuple[float, tuple[str, str] | None]:
    if value is None:
        return math.nan, None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return math.nan, ("not_a_number", f"`{column.name}` is no number.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return math.nan, ("not_finite", f"`{column.name}` is too large, or is not finite.")
    return number, None


def _text_code(column: Column, value: object) -> tuple[float, tuple[str, str] | None]:
    if value is None:
        return math.nan, None
    if not isinstance(value, str | int | float | np.generic):
        return math.nan, ("wrong_type", f"`{column.name}` is no text.")
    categories = column.categories or []
    found = next((text for text in _spellings(value) if text in categories), None)
    # The place after the last category stands for every other text.
    return (len(categories) if found is None else categories.index(found)), None


def _spellings(value: object) -> list[str]:
    """How a table's text could have said it: 3.0 may stand there as `3`, and true as `True`."""
    if isinstance(value, bool | np.bool_):
        return [str(value).lower(), str(value), str(value).upper()]
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return [str(int(value)), str(value)]
    text = composed(str(value))
    return [text, text.strip()]


def _wanted(column: Column) -> str:
    if column.categories is None:
        return NUMBER
    return f"one of: {', '.join(column.categories[:20])}{', …' if len(column.categories) > 20 else ''}"


def _unstorable(
    schema: DatasetSchema, columns: list[Column] | None, inputs: NDArray[Any], is_bad: NDArray[np.bool_]
) -> list[DataProblem]:
    dtype = np.dtype(schema.features.dtype)
    wanted = "a number that float32 can hold"
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        wanted = f"a whole number from {limits.min} to {limits.max}"
    named = columns is not None and width_of(columns) == len(columns)
    problems = []
    for place in np.argwhere(is_bad)[:MOST_PROBLEMS]:
        column = columns[place[1]].name if columns is not None and named else None
        received = shown(float(inputs[tuple(place)]))
        message = (
            f"The value at {place[1:].tolist()} cannot be an input."
            if column is None
            else (f"`{column}` cannot be an input.")
        )
        problems.append(_problem("out_of_range", int(place[0]) + 1, message, received, wanted, column))
    return problems


def _problem(
    code: str, line: int, message: str, received: object, expected: str, column: str | None = None
) -> DataProblem:
    if received is _FINE:
        received = None
    return DataProblem(
        code=code, message=message, line=line, column=column, received=received, expected=expected
    )

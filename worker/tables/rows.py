"""Reads a file of rows without targets, for predictions: the inputs that a dataset's schema asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.meta import USUAL_MISSING, CsvOptions
from services.schema import Column, DatasetSchema
from services.wording import nearest
from worker.encoding import columns_of
from worker.tables.arrays import read_idx, read_npz
from worker.tables.columns import cast, inputs_of
from worker.tables.findings import Findings
from worker.tables.formats import Format, format_of
from worker.tables.reading import SentFile, read_table
from worker.tables.table import Kind, Table


def read_rows(schema: DatasetSchema, file: SentFile, most_rows: int, findings: Findings) -> NDArray[Any]:
    """Inputs (rows, *schema.features.shape) in the stored dtype; other columns are left aside.

    Raises FileRefused, and the findings say why.
    """
    format_ = format_of(file.path, file.name, findings)
    columns = columns_of(schema)
    if format_ in ("npz", "idx"):
        return _from_array(schema, file.path, format_, most_rows, findings)
    if columns is None:
        message = f"The inputs of {schema.name} are arrays of shape {list(schema.features.shape)}."
        raise findings.refuse("unsupported_format", message, received=format_, expected="NPZ with x, or idx")
    words = schema.features.missing_values
    missing = USUAL_MISSING if words is None else words
    table = read_table(file.path, format_, _chooser(columns, findings), CsvOptions(), missing, findings)
    _refuse_too_many(len(table), most_rows, findings)
    return _from_table(schema, columns, table, findings)


def _chooser(columns: list[Column], findings: Findings) -> Any:
    def choose(names: Sequence[str]) -> Mapping[str, Kind]:
        for column in columns:
            if column.name not in names:
                close = nearest(column.name, names)
                message = f"There is no column `{column.name}`."
                message += f" Is it `{close}`?" if close else ""
                wanted = f"the columns {', '.join(column.name for column in columns)}"
                findings.add("missing_column", message, column=column.name, expected=wanted)
        findings.check()
        return {column.name: "texts" if column.kind == "categorical" else "numbers" for column in columns}

    return choose


def _refuse_too_many(rows: int, most_rows: int, findings: Findings) -> None:
    if rows > most_rows:
        message = f"The file holds {rows:,} rows."
        raise findings.refuse("too_many_rows", message, received=rows, expected=f"at most {most_rows:,}")
    if not rows:
        raise findings.refuse("no_rows", "The file holds no rows.", expected="one row or more")


def _from_table(
    schema: DatasetSchema, columns: list[Column], table: Table, findings: Findings
) -> NDArray[Any]:
    for column in columns:
        rows = np.flatnonzero(table.columns[column.name].is_missing)
        if column.impute is None and len(rows):
            findings.add(
                "missing_value",
                f"`{column.name}` is missing, and the training rows had no rule for missing values.",
                line=int(table.lines[rows[0]]),
                column=column.name,
                expected="a value in each row",
                count=len(rows),
            )
    findings.check()
    inputs, is_bad = cast(inputs_of(columns, table.columns), schema.features.dtype)
    _refuse_unstorable(is_bad, table.lines, findings)
    return inputs


def _from_array(
    schema: DatasetSchema, path: Path, format_: Format, most_rows: int, findings: Findings
) -> NDArray[Any]:
    x = read_idx(path, findings) if format_ == "idx" else read_npz(path, findings, only_x=True)["x"]
    shape = schema.features.shape
    if x.dtype.kind not in "biuf":
        raise findings.refuse("wrong_type", f"`x` holds {x.dtype}.", column="x", expected="numbers")
    if x.shape[1:] != shape or not x.ndim:
        message = f"Each row has the shape {list(x.shape[1:])}."
        wanted = f"the shape {list(shape)} that {schema.name} has"
        raise findings.refuse("wrong_shape", message, column="x", received=list(x.shape), expected=wanted)
    _refuse_too_many(len(x), most_rows, findings)
    inputs, is_bad = cast(x, schema.features.dtype)
    _refuse_unstorable(is_bad, np.arange(1, len(x) + 1), findings)
    return inputs


def _refuse_unstorable(is_bad: NDArray[np.bool_], lines: NDArray[np.int64], findings: Findings) -> None:
    rows = np.flatnonzero(is_bad.reshape(len(is_bad), -1).any(axis=1))
    if len(rows):
        message = "Values are missing, not finite, or larger than the inputs can hold."
        line = int(lines[rows[0]])
        raise findings.refuse("out_of_range", message, line=line, expected="finite numbers", count=len(rows))

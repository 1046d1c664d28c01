"""From what was read to a dataset version: schema, arrays, statistics; or every reason why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.answers import DatasetStatistics
from services.meta import USUAL_MISSING, UploadMeta
from services.schema import Column, DatasetSchema, Features, Rows, Target, Task
from worker.tables.choosing import features_of
from worker.tables.columns import cast, inputs_of, names_of_inputs, width_of
from worker.tables.findings import Findings
from worker.tables.inputs import describe_column
from worker.tables.parting import Parts, part_rows
from worker.tables.repeats import repeats
from worker.tables.statistics import statistics_of
from worker.tables.table import Table
from worker.tables.targets import Targets, targets_of

# The stored inputs, float32; reading needs about as much once more.
MOST_INPUTS: Final = 256 * 2**20
REPEATS_SHOWN: Final = 5


@dataclass(frozen=True)
class Made:
    """A dataset that may be stored."""

    schema: DatasetSchema
    arrays: Mapping[str, NDArray[Any]]
    statistics: DatasetStatistics


def make_from_table(meta: UploadMeta, table: Table, findings: Findings) -> Made:
    """Raises FileRefused; the findings have every reason at once."""
    names = features_of(meta, table.columns)  # type: ignore[arg-type]
    parts = part_rows(meta, table, findings)
    targets = targets_of(meta, table, parts, findings)
    columns = [describe_column(meta, name, table, parts, findings) for name in names]
    weights = (
        None
        if meta.weight is None
        else weights_of(table.numbers(meta.weight), meta.weight, table.lines, parts, findings)
    )
    findings.check()
    x = _inputs(columns, table, findings)
    schema = schema_of(meta, _features(meta, columns), targets, parts)
    arrays = arrays_of(x, targets.y, weights, parts)
    warn_of_repeats(arrays, table.lines[parts.unsealed], table.lines[parts.test], findings)
    unsealed = {name: table.columns[name].take(parts.unsealed) for name in names}
    return Made(schema, arrays, statistics_of(schema, arrays["train/x"], arrays["train/y"], unsealed))


def _features(meta: UploadMeta, columns: list[Column]) -> Features:
    return Features(
        shape=(width_of(columns),),
        dtype="float32",
        names=names_of_inputs(columns),
        columns=columns,
        missing_values=None if meta.missing_values == USUAL_MISSING else list(meta.missing_values),
    )


def _inputs(columns: list[Column], table: Table, findings: Findings) -> NDArray[np.float32]:
    rows, width = len(table), width_of(columns)
    if rows * width > MOST_INPUTS:
        message = f"{rows:,} rows of {width:,} inputs are too many."
        wanted = f"at most {MOST_INPUTS:,} values; fewer features or categories"
        raise findings.refuse("too_large", message, received=rows * width, expected=wanted)
    x = np.zeros((rows, width), np.float32)
    place = 0
    for column in columns:
        # One column at a time: float64 inputs of the whole table would double the memory.
        one = inputs_of([column], table.columns)
        made, is_bad = cast(one, "float32")
        if is_bad.any():
            row = int(np.flatnonzero(is_bad.any(axis=1))[0])
            findings.add(
                "out_of_range",
                f"`{column.name}` holds numbers that are too large.",
                line=int(table.lines[row]),
                column=column.name,
                received=float(one[row, 0]),
                expected="numbers of at most 3.4e38",
                count=int(is_bad.any(axis=1).sum()),
            )
        x[:, place : place + one.shape[1]] = made
        place += one.shape[1]
    findings.check()
    return x


def weights_of(
    weights: NDArray[np.float64], name: str, lines: NDArray[np.int64], parts: Parts, findings: Findings
) -> NDArray[np.float32]:
    """The rows' weights, float32: finite, not negative, not 0 in every training row."""
    for is_bad, code, message in (
        (np.isnan(weights), "missing_value", f"`{name}` has no weight in some rows."),
        (weights < 0, "negative_weight", f"`{name}` holds negative weights."),
    ):
        rows = np.flatnonzero(is_bad)
        if len(rows):
            received = weights[rows[0]]
            findings.add(
                code,
                message,
                line=int(lines[rows[0]]),
                column=name,
                received=None if np.isnan(received) else float(received),
                expected="numbers from 0 up",
                count=len(rows),
            )
    made, is_bad = cast(weights, "float32")
    if (is_bad & np.isfinite(weights)).any():
        message = f"`{name}` holds weights that are too large."
        findings.add("out_of_range", message, column=name, expected="numbers of at most 3.4e38")
    if len(parts.train) and not (weights[parts.train] > 0).any():
        message = f"Every training row weighs 0 in `{name}`, so nothing would be learned."
        findings.add("no_weight", message, column=name, expected="a weight above 0 in some training row")
    return made


def schema_of(meta: UploadMeta, features: Features, targets: Targets, parts: Parts) -> DatasetSchema:
    """The schema; for a regression with the range of the unsealed targets."""
    unsealed = targets.y[parts.unsealed]
    is_regression = meta.task is Task.REGRESSION
    return DatasetSchema(
        name=meta.name,
        task=meta.task,
        features=features,
        target=Target(
            shape=targets.y.shape[1:],
            dtype=targets.y.dtype.name,
            names=targets.names,
            class_names=targets.class_names,
            minimum=float(unsealed.min()) if is_regression else None,
            maximum=float(unsealed.max()) if is_regression else None,
        ),
        rows=Rows(train=len(parts.unsealed), test=len(parts.test), validation=len(parts.validation)),
        weight=meta.weight,
    )


def arrays_of(
    x: NDArray[Any], y: NDArray[Any], weights: NDArray[np.float32] | None, parts: Parts
) -> dict[str, NDArray[Any]]:
    """The arrays by the part of a dataset version."""
    arrays = {
        "train/x": x[parts.unsealed],
        "train/y": y[parts.unsealed],
        "test/x": x[parts.test],
        "test/y": y[parts.test],
    }
    return arrays if weights is None else arrays | {"train/w": weights[parts.unsealed]}


def warn_of_repeats(
    arrays: Mapping[str, NDArray[Any]],
    train_lines: NDArray[np.int64],
    test_lines: NDArray[np.int64],
    findings: Findings,
) -> None:
    """Warn of rows that are in the sealed part and in the other one."""
    pairs = repeats([arrays["train/x"], arrays["train/y"]], [arrays["test/x"], arrays["test/y"]])
    if not pairs:
        return
    shown = "; ".join(f"{test_lines[row]} and {train_lines[other]}" for row, other in pairs[:REPEATS_SHOWN])
    findings.warn(
        "repeated_rows",
        f"{len(pairs):,} of the {len(test_lines):,} test rows are also among the training rows, "
        f"so that the test says too little: {shown}{' …' if len(pairs) > REPEATS_SHOWN else ''}.",
        line=int(test_lines[pairs[0][0]]),
        expected="each row once",
        count=len(pairs),
    )

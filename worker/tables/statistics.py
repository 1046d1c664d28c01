"""Figures of the unsealed rows, for people who look at a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.answers import ColumnStatistics, DatasetStatistics, Sample
from services.schema import DatasetSchema, Task
from worker.tables.columns import NO_TEXT, Numbers, Texts, Values

SAMPLES: Final = 5
# Values of one example that are still shown.
LARGEST_SAMPLE: Final = 4096
_AT_ONCE: Final = 4_000_000
# What stands for all inputs of an array together.
ALL_INPUTS: Final = "inputs"


def statistics_of(
    schema: DatasetSchema, x: NDArray[Any], y: NDArray[Any], columns: Mapping[str, Values] | None = None
) -> DatasetStatistics:
    """Of the stored part `train`; `columns` has its inputs as they were read, if they were a table's."""
    names = schema.features.names
    if columns is None and names is not None and x.ndim == 2:
        columns = {name: Numbers(x[:, place].astype(np.float64)) for place, name in enumerate(names)}
    return DatasetStatistics(
        columns=[_summary(ALL_INPUTS, x)]
        if columns is None
        else [_column(name, values) for name, values in columns.items()],
        targets=_targets(schema, y),
        class_counts=_class_counts(schema, y),
        samples=_samples(schema, x, y, columns),
    )


def _targets(schema: DatasetSchema, y: NDArray[Any]) -> list[ColumnStatistics]:
    names, classes = schema.target.names, schema.target.class_names
    if classes is not None:
        counts = _class_counts(schema, y)
        return [ColumnStatistics(name=names[0], kind="categorical", missing=0, counts=counts)]
    flat = y.reshape(len(y), -1)
    return [_summary(name, flat[:, place]) for place, name in enumerate(names)]


def _class_counts(schema: DatasetSchema, y: NDArray[Any]) -> dict[str, int] | None:
    if schema.task is Task.MULTILABEL:
        return {name: int(count) for name, count in zip(schema.target.names, y.sum(axis=0), strict=True)}
    names = schema.target.class_names
    if names is None:
        return None
    counted = np.bincount(y.reshape(-1).astype(np.int64), minlength=len(names))
    return {name: int(count) for name, count in zip(names, counted, strict=True)}


def _column(name: str, values: Values) -> ColumnStatistics:
    missing = int(values.is_missing.sum())
    if isinstance(values, Texts):
        counts = values.counts()
        return ColumnStatistics(name=name, kind="categorical", missing=missing, counts=counts)
    there = values.values[~values.is_missing]
    return _summary(name, there).model_copy(update={"missing": missing})


def _summary(name: str, values: NDArray[Any]) -> ColumnStatistics:
    if not values.size:
        return ColumnStatistics(name=name, kind="numeric", missing=0)
    flat = values.reshape(-1)
    blocks = [flat[start : start + _AT_ONCE] for start in range(0, len(flat), _AT_ONCE)]
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks) / len(flat)
    squares = sum(float(np.square(block.astype(np.float64) - mean).sum()) for block in blocks)
    return ColumnStatistics(
        name=name,
        kind="numeric",
        missing=0,
        minimum=float(flat.min()),
        maximum=float(flat.max()),
        mean=mean,
        std=float(np.sqrt(squares / len(flat))),
    )


def _samples(
    schema: DatasetSchema, x: NDArray[Any], y: NDArray[Any], columns: Mapping[str, Values] | None
) -> list[Sample]:
    if columns is None and x[:1].size > LARGEST_SAMPLE:
        return []
    return [
        Sample(
            features=x[row].tolist()
            if columns is None
            else {name: _value(values, row) for name, values in columns.items()},
            target=_target(schema.target.names, schema.target.class_names, y[row]),
        )
        for row in range(min(SAMPLES, len(x)))
    ]


def _value(values: Values, row: int) -> float | str | None:
    if values.is_missing[row]:
        return None
    if isinstance(values, Texts):
        return values.texts[values.codes[row]] if values.codes[row] != NO_TEXT else None
    return float(values.values[row])


def _target(names: Sequence[str], class_names: Sequence[str] | None, y: Any) -> dict[str, Any]:
    if class_names is not None:
        return {names[0]: class_names[int(np.asarray(y).reshape(-1)[0])]}
    return dict(zip(names, np.asarray(y).reshape(-1).tolist(), strict=True))

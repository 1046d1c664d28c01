"""From the arrays of an NPZ file, or of two idx files, to a dataset version."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.meta import SealedFraction, UploadMeta
from services.schema import Features, Task
from worker.tables.arrays import Arrays
from worker.tables.columns import NO_TEXT, Texts, cast, text_of
from worker.tables.findings import Findings, check_name, refuse_text
from worker.tables.making import Made, arrays_of, schema_of, warn_of_repeats, weights_of
from worker.tables.parting import FEWEST_ROWS, Parts, draw
from worker.tables.statistics import statistics_of
from worker.tables.targets import Targets, amounts, classes, labels

MOST_AXES: Final = 4
DEFAULT_TEST: Final = SealedFraction(fraction=0.2)
# Weights of arrays are an array of this many axes.
ONE_AXIS: Final = 1


def make_from_arrays(meta: UploadMeta, arrays: Arrays, findings: Findings) -> Made:
    """Raises FileRefused; rows are numbered from 1, split by split, as they stand in the file."""
    _refuse_columns(meta, findings)
    _check_shapes(arrays, findings)
    findings.check()
    parts = _parts(meta, arrays, findings)
    x = _inputs(_joined(arrays, "x"), findings)
    lines = np.arange(1, len(x) + 1)
    targets = _targets(meta, _joined(arrays, "y"), lines, parts, findings)
    weights = _weights(meta, arrays, parts, len(x), findings)
    findings.check()
    schema = schema_of(meta, _features(meta, x, findings), targets, parts)
    findings.check()
    stored = arrays_of(x, targets.y, weights, parts)
    warn_of_repeats(stored, lines[parts.unsealed], lines[parts.test], findings)
    return Made(schema, stored, statistics_of(schema, stored["train/x"], stored["train/y"]))


def _refuse_columns(meta: UploadMeta, findings: Findings) -> None:
    for key, value in (
        ("split_column", meta.split_column),
        ("test", meta.test_column),
        ("categorical", meta.categorical or None),
        ("missing", meta.missing),
    ):
        if value is not None:
            message = f"`{key}` is about columns of a table, and arrays have none."
            findings.add("no_columns", message, key=key, expected=f"no `{key}`, or a CSV or Parquet file")


def _check_shapes(arrays: Arrays, findings: Findings) -> None:
    for key, array in arrays.items():
        if key.startswith("x") and not 2 <= array.ndim <= MOST_AXES:
            message = f"`{key}` has {array.ndim} axes."
            wanted = "rows on the first axis, then one to three axes for each example"
            findings.add("wrong_shape", message, column=key, received=list(array.shape), expected=wanted)
        elif key.startswith("x") and 0 in array.shape[1:]:
            findings.add("wrong_shape", f"`{key}` is empty.", column=key, received=list(array.shape))
    findings.check()
    for key, array in arrays.items():
        x = arrays["x"] if key == "weight" else arrays[key.replace("y", "x", 1)]
        if not array.ndim or len(array) != len(x):
            message = f"`{key}` has another number of rows than its inputs."
            received = list(array.shape)
            findings.add("wrong_shape", message, column=key, received=received, expected=f"{len(x):,} rows")
        main = arrays.get(key.partition("_")[0], array)
        if array.shape[1:] != main.shape[1:]:
            message = f"`{key}` has another shape than the training rows."
            expected = f"(rows, {', '.join(map(str, main.shape[1:]))})"
            findings.add("wrong_shape", message, column=key, received=list(array.shape), expected=expected)


def _parts(meta: UploadMeta, arrays: Arrays, findings: Findings) -> Parts:
    train, validation = len(arrays["x"]), len(arrays.get("x_validation", ()))
    if "x_test" not in arrays:
        if not validation:
            return draw(meta, train, findings)
        drawn = draw(meta, train, findings)
        return Parts(drawn.train, np.arange(train, train + validation), drawn.test)
    if meta.test != DEFAULT_TEST:
        message = "The file holds `x_test`, and `test` in `meta` says otherwise."
        raise findings.refuse("two_splits", message, expected="no `test` in `meta`, or no `x_test`")
    sealed = len(arrays["x_test"])
    if train < FEWEST_ROWS or not sealed:
        message = f"There are {train:,} rows for training and {sealed:,} for the test."
        raise findings.refuse("empty_split", message, expected="rows in each")
    ends = np.cumsum([train, validation, sealed])
    return Parts(np.arange(ends[0]), np.arange(ends[0], ends[1]), np.arange(ends[1], ends[2]))


def _joined(arrays: Arrays, key: str) -> NDArray[Any]:
    parts = [arrays[name] for name in (key, f"{key}_validation", f"{key}_test") if name in arrays]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _inputs(x: NDArray[Any], findings: Findings) -> NDArray[Any]:
    """uint8 and float32 stay as they are; other numbers become float32."""
    if x.dtype.kind not in "biuf":
        message = f"`x` holds {x.dtype}, which are no numbers."
        raise findings.refuse("wrong_type", message, column="x", received=str(x.dtype), expected="numbers")
    if x.dtype == np.uint8 or x.dtype.kind == "b":
        return x.astype(np.uint8)
    made, is_bad = cast(x, "float32")
    if is_bad.any():
        place = np.argwhere(is_bad)[0]
        findings.add(
            "not_finite",
            "`x` holds values that are missing, not finite, or too large for float32.",
            line=int(place[0]) + 1,
            column="x",
            received=float(x[tuple(place)]),
            expected="finite numbers of at most 3.4e38",
            count=int(is_bad.sum()),
        )
    return made


def _targets(
    meta: UploadMeta, y: NDArray[Any], lines: NDArray[np.int64], parts: Parts, findings: Findings
) -> Targets:
    if y.dtype.kind not in "biufUS":
        message = f"`y` holds {y.dtype}."
        raise findings.refuse("wrong_type", message, column="y", expected="numbers, or texts for classes")
    if y.ndim == 2 and y.shape[1] == 1 and meta.task is not Task.MULTILABEL:
        y = y[:, 0]
    wanted = {Task.REGRESSION: (1, 2), Task.MULTILABEL: (2,)}.get(meta.task, (1,))
    if y.ndim not in wanted:
        message = f"`y` has {y.ndim} axes, which does not fit the task {meta.task}."
        expected = "class ids, one a row" if meta.has_classes else "one row of numbers an example"
        raise findings.refuse("wrong_shape", message, column="y", received=list(y.shape), expected=expected)
    names = _target_names(meta, y, findings)
    if meta.has_classes:
        found, codes = np.unique(y, return_inverse=True)
        try:
            texts = [text_of(_text(value)) for value in found.tolist()]
        except (SystemError, ValueError):
            # Numbers in the place of characters, which Python cannot make a text of.
            raise refuse_text(findings, column=names[0]) from None
        for text in texts:
            check_name(text, findings, column=names[0])
        # NaN comes last.
        codes[np.isnan(y) if y.dtype.kind == "f" else np.zeros(len(y), bool)] = NO_TEXT
        column = Texts(codes.reshape(-1).astype(np.int32), texts)
        _refuse_nan(column.is_missing, names[0], findings)
        return classes(meta, column, names, lines, parts, findings)
    if y.dtype.kind not in "biuf":
        message = f"`y` holds {y.dtype}, which are no numbers."
        raise findings.refuse("wrong_type", message, column="y", expected="numbers")
    numbers = y.astype(np.float64)
    _refuse_nan(~np.isfinite(numbers), names[0], findings)
    if meta.task is Task.MULTILABEL:
        return labels(numbers, names, lines, parts, findings)
    return amounts(numbers, names, lines, parts, findings)


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _target_names(meta: UploadMeta, y: NDArray[Any], findings: Findings) -> list[str]:
    count = y.shape[1] if y.ndim == 2 else 1
    if meta.target is not None and len(meta.target) != count:
        message = f"`target` names {len(meta.target)} columns, and `y` has {count}."
        raise findings.refuse("wrong_target", message, received=count, expected=f"{count} names")
    if meta.target is not None:
        return list(meta.target)
    base = "label" if meta.task is Task.MULTILABEL or meta.has_classes else "target"
    return [base] if count == 1 else [f"{base}_{number}" for number in range(count)]


def _refuse_nan(is_bad: NDArray[np.bool_], name: str, findings: Findings) -> None:
    rows = np.flatnonzero(is_bad.reshape(len(is_bad), -1).any(axis=1))
    if len(rows):
        findings.add(
            "missing_target",
            "`y` holds targets that are missing or not finite.",
            line=int(rows[0]) + 1,
            column=name,
            expected="a target in each row",
            count=len(rows),
        )


def _weights(
    meta: UploadMeta, arrays: Arrays, parts: Parts, rows: int, findings: Findings
) -> NDArray[np.float32] | None:
    if meta.weight is None:
        return None
    given = arrays["weight"]
    if given.ndim != ONE_AXIS or given.dtype.kind not in "biuf":
        message = f"`{meta.weight}` is not one number a row."
        raise findings.refuse("wrong_shape", message, column=meta.weight, received=list(given.shape))
    # Weights are of the training rows; those of other splits are not used.
    weights = np.ones(rows)
    weights[: len(given)] = given
    return weights_of(weights, meta.weight, np.arange(1, rows + 1), parts, findings)


def _features(meta: UploadMeta, x: NDArray[Any], findings: Findings) -> Features:
    shape = x.shape[1:]
    if meta.features is not None and shape != (len(meta.features),):
        message = f"`features` names {len(meta.features)} inputs, and each row has the shape {list(shape)}."
        findings.add("wrong_features", message, received=list(shape), expected="a name for each input")
    names = None if meta.features is None else list(meta.features)
    return Features(shape=shape, dtype=x.dtype.name, names=names)

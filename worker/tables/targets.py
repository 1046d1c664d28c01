"""Targets: class ids with their names, numbers, or a row of labels; what cannot be one is a problem."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.meta import MOST_CLASSES, UploadMeta
from services.schema import Task
from services.wording import nearest
from worker.tables.columns import NO_TEXT, NUMBER, Texts, cast
from worker.tables.findings import Findings
from worker.tables.parting import Parts
from worker.tables.table import Table

FEW_ROWS: Final = 10
MOST_NAMED: Final = 20


@dataclass(frozen=True)
class Targets:
    """`y` has one row for each row that was read, in the stored dtype."""

    y: NDArray[Any]
    names: list[str]
    class_names: list[str] | None


def targets_of(meta: UploadMeta, table: Table, parts: Parts, findings: Findings) -> Targets:
    """The targets of a table."""
    names = list(meta.target or ())
    for name in names:
        _refuse_missing(name, table, findings)
    if meta.has_classes:
        return classes(meta, table.texts(names[0]), names, table.lines, parts, findings)
    numbers = np.stack([table.numbers(name) for name in names], axis=1)
    if meta.task is Task.MULTILABEL:
        return labels(numbers, names, table.lines, parts, findings)
    return amounts(numbers if len(names) > 1 else numbers[:, 0], names, table.lines, parts, findings)


def _refuse_missing(name: str, table: Table, findings: Findings) -> None:
    rows = np.flatnonzero(table.columns[name].is_missing)
    if len(rows):
        findings.add(
            "missing_target",
            f"`{name}` is the target, and rows have none.",
            line=int(table.lines[rows[0]]),
            column=name,
            expected="a target in each row; rows without one are left out of the file",
            count=len(rows),
        )


def classes(
    meta: UploadMeta,
    column: Texts,
    names: list[str],
    lines: NDArray[np.int64],
    parts: Parts,
    findings: Findings,
) -> Targets:
    """Class ids, uint8 or uint16; the classes are `meta`'s, or those of the file, sorted."""
    column = _ids_as_names(meta, column)
    class_names = _class_names(meta, column, findings)
    ids = column.recoded(class_names)
    _refuse_strangers(column, ids, class_names, lines, names[0], findings)
    if not findings.problems:
        _check_classes(meta, ids, class_names, parts, names[0], findings)
    dtype = np.uint8 if len(class_names) <= 256 else np.uint16
    return Targets(np.maximum(ids, 0).astype(dtype), names, class_names)


def _ids_as_names(meta: UploadMeta, column: Texts) -> Texts:
    """Where a file holds ids, they are the places of `meta`'s classes, unless a class is named so."""
    given = meta.class_names or ()
    names = {str(number): name for number, name in enumerate(given)}
    there = set(column.counts())
    if not there or there & set(given) or not there <= set(names):
        return column
    return Texts(column.codes, [names.get(text, text) for text in column.texts])


def _class_names(meta: UploadMeta, column: Texts, findings: Findings) -> list[str]:
    if meta.class_names is not None:
        return list(meta.class_names)
    found = sorted(column.counts())
    if found and all(NUMBER.fullmatch(text) for text in found):
        found.sort(key=float)
    if len(found) > MOST_CLASSES:
        message = f"`{(meta.target or ('target',))[0]}` has {len(found):,} different values."
        wanted = f"at most {MOST_CLASSES:,} classes; an amount is a regression"
        raise findings.refuse("too_many_classes", message, received=", ".join(found[:10]), expected=wanted)
    if meta.task is Task.BINARY and len(found) > 2:
        message = f"A binary target has two classes; there are {len(found)}."
        listed = ", ".join(found[:MOST_NAMED])
        raise findings.refuse(
            "wrong_classes", message, received=listed, expected="two classes, or task: multiclass"
        )
    return found


def _refuse_strangers(
    column: Texts,
    ids: NDArray[np.int64],
    class_names: list[str],
    lines: NDArray[np.int64],
    name: str,
    findings: Findings,
) -> None:
    strange = (ids == NO_TEXT) & ~column.is_missing
    for code in np.unique(column.codes[strange]):
        rows = np.flatnonzero(column.codes == code)
        text = column.texts[code]
        close = nearest(text, class_names)
        findings.add(
            "unknown_class",
            f"`{text[:80]}` is not among `class_names`." + (f" Did you mean `{close}`?" if close else ""),
            key=text,
            line=int(lines[rows[0]]),
            column=name,
            received=text,
            expected=f"one of: {', '.join(class_names[:MOST_NAMED])}",
            count=len(rows),
        )


def _check_classes(
    meta: UploadMeta,
    ids: NDArray[np.int64],
    class_names: list[str],
    parts: Parts,
    name: str,
    findings: Findings,
) -> None:
    in_train = np.bincount(ids[parts.train], minlength=len(class_names))
    in_all = np.bincount(ids, minlength=len(class_names))
    if np.count_nonzero(in_all) < 2:
        there = class_names[int(in_all.argmax())]
        message = f"Every row is of the class `{there}`; nothing can be learned from one class."
        findings.add(
            "one_class", message, column=name, received=there, expected="rows of two classes or more"
        )
        return
    for id_ in np.flatnonzero((in_train == 0) & (in_all > 0)).tolist():
        message = f"The class `{class_names[id_]}` has no training row: all of them are in other splits."
        findings.add(
            "class_not_in_training",
            message,
            key=class_names[id_],
            column=name,
            received=class_names[id_],
            expected="training rows of each class; another `seed` draws other rows",
            count=int(in_all[id_]),
        )
    for id_ in np.flatnonzero(in_all == 0).tolist():
        message = f"No row is of the class `{class_names[id_]}`."
        findings.warn("class_without_rows", message, key=class_names[id_], column=name)
    for id_ in np.flatnonzero((in_train > 0) & (in_train < FEW_ROWS)).tolist():
        count = int(in_train[id_])
        message = f"The class `{class_names[id_]}` has {count} training row{'' if count == 1 else 's'}."
        findings.warn("few_rows_of_class", message, key=class_names[id_], column=name, received=count)


def labels(
    numbers: NDArray[np.float64],
    names: list[str],
    lines: NDArray[np.int64],
    parts: Parts,
    findings: Findings,
) -> Targets:
    """A row of 0 and 1, uint8 (rows, labels)."""
    strange = ~np.isin(numbers, (0, 1)) & np.isfinite(numbers)
    for place in np.flatnonzero(strange.any(axis=0)).tolist():
        row = np.flatnonzero(strange[:, place])[0]
        findings.add(
            "not_a_label",
            f"`{names[place]}` is a label, and holds other values than 0 and 1.",
            line=int(lines[row]),
            column=names[place],
            received=float(numbers[row, place]),
            expected="0 or 1",
            count=int(strange[:, place].sum()),
        )
    for place, name in enumerate(names):
        in_train = numbers[parts.train, place]
        if len(in_train) and (in_train == in_train[0]).all():
            message = f"The label `{name}` is {in_train[0]:g} in every training row."
            findings.warn("constant_label", message, column=name)
    return Targets((numbers == 1).astype(np.uint8), names, None)


def amounts(
    numbers: NDArray[np.float64],
    names: list[str],
    lines: NDArray[np.int64],
    parts: Parts,
    findings: Findings,
) -> Targets:
    """Numbers to be estimated, float32 (rows,) or (rows, targets)."""
    flat = numbers.reshape(len(numbers), -1)
    y, is_bad = cast(flat, "float32")
    is_bad &= np.isfinite(flat)
    for place, name in enumerate(names):
        rows = np.flatnonzero(is_bad[:, place])
        if len(rows):
            findings.add(
                "out_of_range",
                f"`{name}` holds numbers that are too large.",
                line=int(lines[rows[0]]),
                column=name,
                received=float(flat[rows[0], place]),
                expected="numbers of at most 3.4e38",
                count=len(rows),
            )
        in_train = flat[parts.train, place]
        if len(in_train) and (in_train == in_train[0]).all() and np.isfinite(in_train[0]):
            message = f"`{name}` is {in_train[0]:g} in every training row; there is nothing to learn."
            findings.add("constant_target", message, column=name, expected="targets that differ")
    return Targets(y.reshape(numbers.shape), names, None)

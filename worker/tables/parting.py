"""Which rows are for training, which are the file's own validation rows, and which are sealed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.meta import SealedCount, SealedFraction, SealedLast, UploadMeta
from services.wording import nearest
from worker.tables.columns import NO_TEXT, Texts
from worker.tables.findings import Findings
from worker.tables.table import Table

FEWEST_ROWS: Final = 2
YES: Final = ("test", "1", "true", "yes")
NO: Final = ("train", "0", "false", "no")
SPLITS: Final = ("train", "validation", "test")

RowIds = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """Row numbers from 0, each part in the file's order."""

    train: RowIds
    validation: RowIds
    test: RowIds

    @property
    def unsealed(self) -> RowIds:
        """The rows of the stored part `train`: those for training, then the file's own validation rows."""
        return np.concatenate([self.train, self.validation])


def part_rows(meta: UploadMeta, table: Table, findings: Findings) -> Parts:
    """The parts of a table; raises FileRefused if one of them cannot be made."""
    if meta.split_column is not None:
        return _by_split(meta.split_column, table, findings)
    if meta.test_column is not None:
        return _by_test(meta.test_column, table, findings)
    return draw(meta, len(table), findings)


def draw(meta: UploadMeta, rows: int, findings: Findings) -> Parts:
    """The parts where `meta` gives a number of rows or a share; the same for the same seed."""
    count = _sealed_rows(meta, rows)
    if rows - count < FEWEST_ROWS:
        message = f"There {'is 1 row' if rows == 1 else f'are {rows:,} rows'}"
        message += f", and {count:,} of them would be sealed as the test split." if count else "."
        wanted = f"at least {FEWEST_ROWS} rows for training"
        raise findings.refuse("too_few_rows", message, received=rows, expected=wanted)
    order = np.arange(rows)
    if not isinstance(meta.test, SealedLast):
        # As scikit-learn's train_test_split draws.
        order = np.random.RandomState(meta.seed).permutation(rows)
        order = np.concatenate([np.sort(order[count:]), np.sort(order[:count])])
    return Parts(order[: rows - count], np.arange(0), order[rows - count :])


def _sealed_rows(meta: UploadMeta, rows: int) -> int:
    match meta.test:
        case SealedFraction(fraction=share):
            return math.ceil(share * rows)
        case SealedCount(count=count) | SealedLast(last=count):
            return count
    return 0


def _by_split(column: str, table: Table, findings: Findings) -> Parts:
    said = _said(column, table, {name: [name] for name in SPLITS}, findings)
    parts = Parts(*(np.flatnonzero(said == place) for place in range(3)))
    counts = dict(zip(SPLITS, map(len, (parts.train, parts.validation, parts.test)), strict=True))
    _check_parts(column, counts, findings, has_other=len(parts.train) < len(table))
    return parts


def _by_test(column: str, table: Table, findings: Findings) -> Parts:
    said = _said(column, table, {"train": list(NO), "test": list(YES)}, findings)
    parts = Parts(np.flatnonzero(said == 0), np.arange(0), np.flatnonzero(said == 1))
    _check_parts(
        column, {"train": len(parts.train), "test": len(parts.test)}, findings, has_other=len(parts.test) > 0
    )
    return parts


def _check_parts(column: str, counts: Mapping[str, int], findings: Findings, *, has_other: bool) -> None:
    received = ", ".join(f"{name}: {count:,} rows" for name, count in counts.items())
    if counts["train"] < FEWEST_ROWS:
        message = f"`{column}` leaves {counts['train']} rows for training."
        findings.add("empty_split", message, column=column, received=received, expected="2 rows or more")
    elif not has_other:
        message = f"`{column}` puts every row into the training split."
        findings.add("empty_split", message, column=column, received=received, expected="some other rows")
    findings.check()


def _said(column: str, table: Table, words: Mapping[str, list[str]], findings: Findings) -> RowIds:
    """For each row the place of the word that it says; raises FileRefused for others."""
    values = table.texts(column)
    places = {word: place for place, spellings in enumerate(words.values()) for word in spellings}
    lowered = Texts(values.codes, [text.lower() for text in values.texts])
    said = lowered.recoded(list(places))
    wanted = f"one of: {', '.join(places)}"
    for code in np.unique(values.codes[said == NO_TEXT]):
        rows = np.flatnonzero(values.codes == code)
        word = None if code == NO_TEXT else values.texts[code]
        close = None if word is None else nearest(word, list(places))
        message = f"`{column}` says nothing." if word is None else f"`{column}` says {word[:80]!r}."
        findings.add(
            "bad_split_value",
            message + (f" Did you mean `{close}`?" if close else ""),
            key=word,
            line=int(table.lines[rows[0]]),
            column=column,
            received=word,
            expected=wanted,
            count=len(rows),
        )
    findings.check()
    return np.array(list(places.values()), np.int64)[said]

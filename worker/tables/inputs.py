"""A table's inputs: what stands in for missing values and which categories there are, by training rows."""

from typing import Final

import numpy as np

from services.meta import STRATEGIES, UploadMeta
from services.schema import Column
from worker.tables.columns import Numbers, Texts, Values
from worker.tables.findings import Findings
from worker.tables.parting import Parts
from worker.tables.table import Table

MOST_CATEGORIES: Final = 1_000
# A column with so many values among its rows names the rows themselves.
NEARLY_UNIQUE: Final = 0.5
FEWEST_FOR_UNIQUE: Final = 20


def describe_column(meta: UploadMeta, name: str, table: Table, parts: Parts, findings: Findings) -> Column:
    """How the values of one column become inputs."""
    values = table.columns[name]
    rule = meta.missing.get(name) if isinstance(meta.missing, dict) else meta.missing
    in_train = values.take(parts.train)
    if rule is None:
        _refuse_missing(name, values, table, findings)
        impute = None
    else:
        impute = _impute(name, rule, in_train, findings)
    if isinstance(in_train, Numbers):
        _check_numbers(name, in_train, findings)
        return Column(name=name, kind="numeric", impute=impute)
    categories = _categories(name, in_train, impute, findings)
    _note_strangers(name, {*categories, impute}, table, parts, findings)
    return Column(name=name, kind="categorical", categories=categories, impute=impute)


def _refuse_missing(name: str, values: Values, table: Table, findings: Findings) -> None:
    rows = np.flatnonzero(values.is_missing)
    if len(rows):
        strategies = "most_frequent" if isinstance(values, Texts) else "median"
        findings.add(
            "missing_value",
            f"`{name}` has no value in some rows.",
            line=int(table.lines[rows[0]]),
            column=name,
            expected=f'a value in each row, or missing: {{"{name}": "{strategies}"}} in `meta`',
            count=len(rows),
        )


def _impute(name: str, rule: str | float, in_train: Values, findings: Findings) -> float | str | None:
    if rule not in STRATEGIES:
        return rule
    if in_train.is_missing.all():
        message = f"`{name}` has no value in any training row, so that nothing can be put in its place."
        findings.add("only_missing", message, column=name, expected="a number or a text to stand there")
        return None
    if isinstance(in_train, Texts):
        # A name has no mean; the rule for all columns means the most frequent one here.
        counts = in_train.counts()
        return min(counts, key=lambda text: (-counts[text], text))
    there = in_train.values[np.isfinite(in_train.values)]
    if not len(there):
        return None
    if rule == "most_frequent":
        found, counted = np.unique(there, return_counts=True)
        return float(found[counted.argmax()])
    return float(np.mean(there) if rule == "mean" else np.median(there))


def _check_numbers(name: str, in_train: Numbers, findings: Findings) -> None:
    there = in_train.values[np.isfinite(in_train.values)]
    if len(there) and (there == there[0]).all():
        message = f"`{name}` is {there[0]:g} in every training row; it tells nothing."
        findings.warn("constant_column", message, column=name)


def _categories(name: str, in_train: Texts, impute: float | str | None, findings: Findings) -> list[str]:
    counts = in_train.counts()
    categories = sorted(counts)
    if isinstance(impute, str) and impute not in counts and in_train.is_missing.any():
        categories.append(impute)
    rows = len(in_train)
    if len(categories) > MOST_CATEGORIES:
        message = f"`{name}` has {len(categories):,} categories, each of which would be an input."
        findings.add(
            "too_many_categories",
            message,
            column=name,
            received=", ".join(categories[:10]),
            expected=f"at most {MOST_CATEGORIES:,}; an identifier is left out of `features`",
        )
    elif len(categories) > NEARLY_UNIQUE * rows and rows >= FEWEST_FOR_UNIQUE:
        message = f"`{name}` has {len(categories):,} categories in {rows:,} training rows: almost one a row."
        findings.warn("nearly_unique", message, column=name, expected="no identifiers among the features")
    elif len(categories) == 1:
        message = f"`{name}` is `{categories[0][:80]}` in every training row; it tells nothing."
        findings.warn("constant_column", message, column=name)
    return categories


def _note_strangers(
    name: str, known: set[str | float | None], table: Table, parts: Parts, findings: Findings
) -> None:
    values = table.texts(name)
    strange = np.array([text not in known for text in values.texts] + [False])[values.codes]
    rows = np.flatnonzero(strange)
    if len(rows):
        # What a sealed row holds is not for the eyes of anybody.
        open_rows = rows[np.isin(rows, parts.unsealed)]
        first = int((open_rows if len(open_rows) else rows)[0])
        findings.warn(
            "category_not_in_training",
            f"`{name}` has values that no training row has; they become zeros.",
            line=int(table.lines[first]),
            column=name,
            received=values.texts[values.codes[first]] if len(open_rows) else None,
            count=len(rows),
        )

"""Which columns of a file are read, and as what: what `meta` names must be there."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from services.meta import UploadMeta, parts_of_columns
from services.schema import Task
from services.wording import nearest
from worker.tables.findings import Findings
from worker.tables.table import Kind

MOST_NAMED: Final = 30
# How pandas writes an index that has no name.
_INDEX: Final = re.compile(r"__index_level_\d+__")


def choose_columns(meta: UploadMeta, names: Sequence[str], findings: Findings) -> dict[str, Kind]:
    """The columns to read; raises FileRefused if any that `meta` names is not there."""
    parts = dict(parts_of_columns(meta))
    if meta.target is None:
        message = "A table needs `target` in `meta`: the column that is predicted."
        findings.add("missing_key", message, expected=f"one of: {_listed(names)}")
    features = list(meta.features or _other_columns(names, parts, findings))
    for name in dict.fromkeys([*parts, *features, *meta.categorical, *_with_rules(meta)]):
        if name not in names:
            _unknown(name, names, findings)
    if not features:
        message = "No column is left to be an input."
        findings.add("no_features", message, received=_listed(names), expected="a column beside the target")
    findings.check()
    return {name: "texts" if name in meta.categorical else "numbers" for name in features} | _kinds(meta)


def features_of(meta: UploadMeta, kinds: Mapping[str, Kind]) -> list[str]:
    """The inputs among the columns that were read, in order."""
    parts = dict(parts_of_columns(meta))
    return [name for name in kinds if name not in parts]


def _kinds(meta: UploadMeta) -> dict[str, Kind]:
    target: Kind = "texts" if meta.task in {Task.BINARY, Task.MULTICLASS} else "numbers"
    kinds: dict[str, Kind] = dict.fromkeys(meta.target or (), target)
    if meta.weight is not None:
        kinds[meta.weight] = "numbers"
    for column in (meta.test_column, meta.split_column):
        if column is not None:
            kinds[column] = "texts"
    return kinds


def _with_rules(meta: UploadMeta) -> Sequence[str]:
    return list(meta.missing) if isinstance(meta.missing, dict) else []


def _other_columns(names: Sequence[str], parts: Mapping[str, object], findings: Findings) -> list[str]:
    others = [name for name in names if name not in parts and not _INDEX.fullmatch(name)]
    for place, name in enumerate(names, 1):
        if not name:
            message = f"Column {place} has no name."
            wanted = "a name; a table from pandas is written with to_csv(index=False)"
            findings.add("unnamed_column", message, line=1, expected=wanted)
    return others


def _unknown(name: str, names: Sequence[str], findings: Findings) -> None:
    close = nearest(name, names)
    message = f"There is no column `{name}`." + (f" Did you mean `{close}`?" if close else "")
    findings.add("unknown_column", message, column=name, received=name, expected=f"one of: {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")

"""Which types of a Parquet column can be read, and what the others are called in plain words."""

from collections.abc import Callable
from typing import Any, Final

from pyarrow import types

from worker.tables.table import Kind

Test = Callable[[Any], bool]

NUMBERS: Final[tuple[Test, ...]] = (
    types.is_integer,
    types.is_floating,
    types.is_boolean,
    types.is_decimal,
)
TEXTS: Final[tuple[Test, ...]] = (types.is_string, types.is_large_string, types.is_string_view)
LISTS: Final[tuple[Test, ...]] = (
    types.is_list,
    types.is_large_list,
    types.is_fixed_size_list,
    types.is_list_view,
    types.is_large_list_view,
)
BYTES: Final[tuple[Test, ...]] = (
    types.is_binary,
    types.is_large_binary,
    types.is_fixed_size_binary,
    types.is_binary_view,
)
# What a column holds, and what a person can make of it.
OTHERS: Final[tuple[tuple[tuple[Test, ...], str, str], ...]] = (
    ((types.is_date,), "dates", "such as days since a first day, or year, month and weekday"),
    ((types.is_timestamp,), "points in time", "such as hours since a first one, or weekday and hour"),
    ((types.is_time,), "times of day", "such as hours since midnight"),
    ((types.is_duration, types.is_interval), "durations", "such as a duration's seconds"),
    (LISTS, "lists", "in a column for each value of the list"),
    ((types.is_struct, types.is_map, types.is_union), "records", "in a column for each of their fields"),
    (BYTES, "bytes", "or leave the column out of `features`"),
    ((types.is_null,), "no value at all", "or leave the column out of `features`"),
)


def values_of(type_: Any) -> Any:
    """The type of the values, also where they are stored by dictionary."""
    return type_.value_type if types.is_dictionary(type_) else type_


def can_be(type_: Any, kind: Kind) -> bool:
    """Whether a column of this type can be read as numbers, or as texts."""
    return _is(type_, NUMBERS) or (kind == "texts" and _is(type_, TEXTS))


def in_words(type_: Any, kind: Kind) -> tuple[str, str]:
    """What a column that cannot be read holds, and what would do."""
    wanted = "numbers" if kind == "numbers" else "texts or numbers"
    if _is(type_, TEXTS):
        return "texts", f"{wanted}; names belong into `categorical`"
    for tests, held, advice in OTHERS:
        if _is(type_, tests):
            return held, f"{wanted}, {advice}"
    return "values of an unknown kind", wanted


def _is(type_: Any, tests: tuple[Test, ...]) -> bool:
    return any(test(values_of(type_)) for test in tests)

"""How a dataset's `meta`, of which the server speaks, is said on the command line."""

import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainshed.answers import DataProblem, ProblemItem

GENERAL = (
    "Keys of `meta` are set with --set KEY=VALUE, such as --set test.last=1000, or in the file of --meta."
)
NAMED = re.compile(
    r"`(meta|categorical|class_names|csv|features|missing|missing_values|seed|split_column|test|weight)`"
)
# What the server proposes: one key and its value.
PROPOSED = re.compile(r"(\w+): (\{[^{}]*\}) in `meta`")


def hint_for_data(found: "Sequence[DataProblem]") -> str | None:
    """What to add to the command where problems of a file are mended in `meta`; None if none is."""
    wanted = [one["expected"] or "" for one in found]
    proposals = [proposal for text in wanted for proposal in PROPOSED.findall(text)]
    if settings := dict.fromkeys(setting for key, text in proposals for setting in _settings(key, text)):
        return f"On the command line: {' '.join(f'--set {shlex.quote(setting)}' for setting in settings)}"
    is_named = any(NAMED.search(text) for text in wanted) or any("`meta`" in one["message"] for one in found)
    return GENERAL if is_named else None


def hint_for_request(problems: "Sequence[ProblemItem]") -> str | None:
    """The same for problems of `meta` itself."""
    return GENERAL if any(one["pointer"].startswith("/meta") for one in problems) else None


def _settings(key: str, text: str) -> list[str]:
    try:
        value = json.loads(text)
    except ValueError:
        # A column's name with a quotation mark.
        return []
    if any(mark in name for name in value for mark in ".="):
        return [f"{key}={text}"]
    return [f"{key}.{name}={rule}" for name, rule in value.items()]

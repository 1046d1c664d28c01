"""What is wrong with a request, as facts and as one sentence each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.errors import TrainshedError


@dataclass(frozen=True)
class Problem:
    """One broken rule."""

    code: str
    """Stable name of the rule."""
    pointer: str
    """JSON Pointer (RFC 6901) into the document that was sent."""
    message: str
    """What is wrong and why it cannot work, for a beginner."""
    received: Any = None
    """What came, as plain data."""
    expected: str | None = None
    """What would do."""


class SpecInvalid(TrainshedError):
    """A spec cannot be trained; `problems` holds every reason at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{p.pointer or '/'}: {p.message}" for p in self.problems))


class DocumentUnreadable(TrainshedError):
    """A body is not one document of plain data. Lines and columns begin at 1; None if not known."""

    def __init__(
        self, code: str, message: str, *, line: int | None = None, column: int | None = None
    ) -> None:
        self.code = code
        self.line = line
        self.column = column
        where = "" if line is None else f" (line {line}, column {column})"
        super().__init__(f"{message}{where}")


def pointer_to(*path: str | int) -> str:
    """The JSON Pointer of a path."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)

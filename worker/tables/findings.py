"""What is found in a file: problems, which refuse it, and warnings, which do not."""

from typing import Any, Final

from services.answers import DataProblem
from services.wording import shown

MOST_LISTED: Final = 100


class FileRefused(Exception):
    """Nothing more can be read of this file; the findings say why."""


class Findings:
    """Collects problems and warnings: one a rule and column, with the first place and how often."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str | None, str | None], DataProblem] = {}
        self._warnings: dict[tuple[str, str | None, str | None], DataProblem] = {}
        self.file: str | None = None
        """Form field of the file that is read, where several came."""

    @property
    def problems(self) -> list[DataProblem]:
        """Why the file is refused."""
        return list(self._problems.values())[:MOST_LISTED]

    @property
    def warnings(self) -> list[DataProblem]:
        """What a person should know."""
        return list(self._warnings.values())[:MOST_LISTED]

    def add(self, code: str, message: str, **place: Any) -> None:
        """Add a problem; `place` has DataProblem's other fields, and `key` to tell equal rules apart."""
        self._add(self._problems, code, message, **place)

    def warn(self, code: str, message: str, **place: Any) -> None:
        """Add a warning."""
        self._add(self._warnings, code, message, **place)

    def refuse(self, code: str, message: str, **place: Any) -> FileRefused:
        """Add a problem after which nothing more can be read; to be raised."""
        self.add(code, message, **place)
        return FileRefused(message)

    def check(self) -> None:
        """Raise FileRefused if there is a problem."""
        if self._problems:
            raise FileRefused("; ".join(problem.message for problem in self.problems))

    def _add(
        self,
        found: dict[tuple[str, str | None, str | None], DataProblem],
        code: str,
        message: str,
        *,
        key: str | None = None,
        received: object = None,
        count: int = 1,
        **place: Any,
    ) -> None:
        place_of = (code, place.get("column"), key)
        if place_of in found:
            before = found[place_of]
            found[place_of] = before.model_copy(update={"count": before.count + count})
            return
        place.setdefault("file", self.file)
        found[place_of] = DataProblem(
            code=code, message=message, received=shown(received), count=count, **place
        )

"""What is found in a file: problems, which refuse it, and warnings, which do not."""

import unicodedata
from typing import Any, Final

from services.answers import DataProblem
from services.wording import shown

MOST_LISTED: Final = 100
LONGEST_NAME: Final = 255
NUL: Final = "\0"
# Unicode's categories of control characters and of halves of pairs.
UNPRINTABLE: Final = frozenset({"Cc", "Cs"})


def plain(text: str) -> str:
    """The text as SQL and JSON can carry it: without NUL, and without halves of characters."""
    return text.replace(NUL, "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


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
        place |= {"message": message, "received": shown(received)}
        place = {name: plain(value) if isinstance(value, str) else value for name, value in place.items()}
        found[place_of] = DataProblem(code=code, count=count, **place)


def check_name(text: str, findings: Findings, **place: Any) -> None:
    """Raise FileRefused for what cannot be the name of a column, a category or a class; `place` as in `add`.

    Such a name is in schemas, answers, pictures and logs: it has to be short, and nothing but text.
    """
    if any(unicodedata.category(mark) in UNPRINTABLE and mark not in "\t\n\r" for mark in text):
        raise refuse_text(findings, received=text, **place)
    if len(text) > LONGEST_NAME:
        message = f"A name of {len(text):,} characters is too long."
        wanted = f"at most {LONGEST_NAME} characters for a column, a category or a class"
        raise findings.refuse("name_too_long", message, received=text[:80], expected=wanted, **place)


def refuse_text(findings: Findings, **place: Any) -> FileRefused:
    """To be raised where a text holds what is no text; `place` as in `add`."""
    message = "A text holds a control character, such as NUL, or half of a character."
    return findings.refuse("bad_text", message, expected="text without such characters", **place)

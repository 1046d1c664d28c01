"""Texts of a CSV become numbers or codes, a block of rows at a time; what cannot is named by its place."""

import math
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.spelling import composed
from worker.tables.columns import NO_TEXT, NUMBER, Numbers, Texts
from worker.tables.findings import Findings, check_name

# A column with more different texts is no category and no class; keeping them would fill the memory.
MOST_TEXTS: Final = 100_000

_NOT_FINITE: Final = re.compile(r"[-+]?(inf|infinity|nan)", re.IGNORECASE)
_DECIMAL_COMMA: Final = re.compile(r"[-+]?\d+,\d+", re.ASCII)
_THOUSANDS: Final = re.compile(r"[-+]?\d{1,3}([ .,'’\u00a0\u202f]\d{3})+([.,]\d+)?")
_UNIT: Final = re.compile(r"[^\d]*[-+]?\d+([.,]\d+)?\s*[^\d]+|[^\d\s.,+-]+\s*\d+([.,]\d+)?")


class NumberCells:
    """One column of numbers while it is read."""

    def __init__(self, name: str, missing: frozenset[str], decimal: str, findings: Findings) -> None:
        self._name = name
        self._missing = missing
        # Such as -999: it would pass for a number.
        self._missing_numbers = {text for text in missing if any(c.isdigit() for c in text)}
        self._decimal = decimal
        self._findings = findings
        self._blocks: list[NDArray[np.float64]] = []

    def add(self, texts: Sequence[str], lines: Sequence[int]) -> None:
        """Take a block of cells."""
        block = self._quickly(texts)
        self._blocks.append(self._one_by_one(texts, lines) if block is None else block)

    def column(self) -> Numbers:
        """All that was read."""
        return Numbers(np.concatenate(self._blocks) if self._blocks else np.zeros(0))

    def _quickly(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """The block's numbers, or None if there is anything to look at more closely."""
        whole = "".join(texts)
        if not whole.isascii() or "_" in whole:
            return None
        if self._missing_numbers and not self._missing_numbers.isdisjoint(text.strip() for text in texts):
            return None
        if self._decimal == ",":
            if "." in whole:
                return None
            texts = [text.replace(",", ".") for text in texts]
        try:
            block = np.array([float(text) for text in texts])
        except ValueError:
            return None
        return block if np.isfinite(block).all() else None

    def _one_by_one(self, texts: Sequence[str], lines: Sequence[int]) -> NDArray[np.float64]:
        return np.array([self._number(text, line) for text, line in zip(texts, lines, strict=True)])

    def _number(self, raw: str, line: int) -> float:
        text = composed(raw.strip())
        if text in self._missing:
            return math.nan
        plain = text
        if self._decimal == ",":
            plain = "?" if "." in text else text.replace(",", ".")
        if NUMBER.fullmatch(plain) and math.isfinite(number := float(plain)):
            return number
        if NUMBER.fullmatch(plain) or _NOT_FINITE.fullmatch(text):
            message, code = f"`{self._name}` holds numbers that are not finite.", "not_finite"
            expected = "a finite number; add the text to `missing_values` if it means that there is none"
        else:
            message, code = f"`{self._name}` holds text where numbers are needed.", "not_a_number"
            expected = self._advice(text)
        self._findings.add(code, message, line=line, column=self._name, received=raw, expected=expected)
        return math.inf

    def _advice(self, text: str) -> str:
        if self._decimal == "." and _DECIMAL_COMMA.fullmatch(text):
            return 'a decimal point, or csv: {"decimal": ","} in `meta`'
        if _THOUSANDS.fullmatch(text):
            return "a number without thousands marks, such as 1234.5"
        if _UNIT.fullmatch(text):
            return "the number alone, without a unit"
        return (
            "a number; if the values are names, put the column into `categorical`, "
            "or add the text to `missing_values`"
        )


class _Codes(dict[str, int]):
    """Gives each new text the next code."""

    def __init__(self, missing: frozenset[str]) -> None:
        super().__init__()
        self._missing = missing
        self.texts: dict[str, int] = {}

    def __missing__(self, raw: str) -> int:
        text = composed(raw.strip())
        if text in self._missing:
            code = NO_TEXT
        elif len(self.texts) > MOST_TEXTS:
            return 0
        else:
            code = self.texts.setdefault(text, len(self.texts))
        self[raw] = code
        return code


class TextCells:
    """One column of texts while it is read."""

    def __init__(self, name: str, missing: frozenset[str], findings: Findings) -> None:
        self._name = name
        self._findings = findings
        self._codes = _Codes(missing)
        self._blocks: list[NDArray[np.int32]] = []

    def add(self, texts: Sequence[str], lines: Sequence[int]) -> None:
        """Take a block of cells."""
        self._blocks.append(np.array([self._codes[text] for text in texts], np.int32))

    def column(self) -> Texts:
        """All that was read; a problem if the texts are too many."""
        codes = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int32)
        return texts_of(self._name, codes, list(self._codes.texts), self._findings)


def texts_of(name: str, codes: NDArray[np.int32], texts: list[str], findings: Findings) -> Texts:
    """A column of texts; a problem if they are too many, or are no names. Raises FileRefused."""
    if len(texts) > MOST_TEXTS:
        message = f"`{name}` has more than {MOST_TEXTS:,} different values."
        findings.add("too_many_values", message, column=name, expected="a column of categories or classes")
    for text in texts:
        check_name(text, findings, column=name)
    return Texts(codes, texts)

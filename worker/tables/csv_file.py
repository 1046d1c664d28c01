"""Reads a CSV in blocks: the standard library's parser, NumPy's numbers, the line of whatever is wrong."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from services.meta import CsvOptions
from services.spelling import composed
from worker.tables.cells import NumberCells, TextCells
from worker.tables.columns import NUMBER
from worker.tables.findings import NUL, Findings, check_name, refuse_text
from worker.tables.table import Choose, Kind, Table

HEAD_CHARACTERS: Final = 64 * 1024
HEAD_ROWS: Final = 200
DELIMITERS: Final = (",", ";", "\t", "|")
# As many cells at once as Python objects; a block takes some 50 MB.
BLOCK_CELLS: Final = 400_000
MOST_COLUMNS: Final = 10_000
LONGEST_CELL: Final = 128 * 1024

_WITH_COMMA: Final = re.compile(r"[-+]?\d*,\d+")
_WITH_POINT: Final = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")


@dataclass
class _Block:
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read_csv(
    path: Path, choose: Choose, options: CsvOptions, missing: Sequence[str], findings: Findings
) -> Table:
    """The chosen columns of a CSV with a header line; raises FileRefused where nothing can be read."""
    # A cell as long as this is a quote that nobody closed.
    csv.field_size_limit(LONGEST_CELL)
    try:
        head = _head(path)
        delimiter = options.delimiter or _delimiter(head)
        decimal = options.decimal or _decimal(head, delimiter)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_without_nul(file, findings), delimiter=delimiter, strict=True)
            try:
                return _read(reader, choose, decimal, frozenset(missing), findings)
            except csv.Error as error:
                raise _refused_quotes(error, reader.line_num, findings) from None
    except UnicodeDecodeError:
        line, wrong = _not_utf8(path)
        message = "The text is not written in UTF-8."
        raise findings.refuse(
            "not_utf8", message, line=line, received=wrong, expected="UTF-8; Excel calls it CSV UTF-8"
        ) from None


def _without_nul(lines: Iterable[str], findings: Findings) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if NUL in line:
            raise refuse_text(findings, line=number)
        yield line


def _refused_quotes(error: csv.Error, line: int, findings: Findings) -> Exception:
    text = str(error)
    if "field larger" in text or "unexpected end" in text:
        message = "A quotation mark is opened and not closed, or a value is very long."
        code = "unclosed_quote"
    else:
        message, code = f"The line cannot be read: {text}.", "bad_quotes"
    wanted = 'a value in quotation marks, with each mark inside it doubled: "4"" pipe"'
    return findings.refuse(code, message, line=line, expected=wanted)


def _head(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.read(HEAD_CHARACTERS)
    # The last line may be cut off.
    return head if len(head) < HEAD_CHARACTERS else head[: head.rfind("\n") + 1] or head


def _sample(head: str, delimiter: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(head.splitlines(keepends=True), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) == HEAD_ROWS:
                break
    except csv.Error:
        pass
    return rows


def _delimiter(head: str) -> str:
    """The one that gives most rows the header's number of columns, which is more than one."""

    def rank(delimiter: str) -> tuple[float, int]:
        rows = _sample(head, delimiter)
        width = len(rows[0]) if rows else 1
        agree = sum(len(row) == width for row in rows) / max(1, len(rows))
        return (agree if width > 1 else 0.0), width

    return max(DELIMITERS, key=rank)


def _decimal(head: str, delimiter: str) -> str:
    """A comma where numbers have one and none has a point."""
    if delimiter == ",":
        return "."
    cells = [cell.strip() for row in _sample(head, delimiter)[1:] for cell in row]
    has_comma = any(_WITH_COMMA.fullmatch(cell) for cell in cells)
    return "," if has_comma and not any(_WITH_POINT.fullmatch(cell) for cell in cells) else "."


def _not_utf8(path: Path) -> tuple[int, str]:
    """The first line that is not UTF-8, and the bytes there."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, line[max(0, error.start - 20) : error.end + 20].decode("latin-1")
    return 1, ""


def _read(
    reader: "Iterator[list[str]]", choose: Choose, decimal: str, missing: frozenset[str], findings: Findings
) -> Table:
    header = _header(reader, findings)
    kinds = choose(header)
    places = {name: header.index(name) for name in kinds}
    cells = {name: _cells(name, kind, decimal, missing, findings) for name, kind in kinds.items()}
    lines: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    for block in _blocks(reader, len(header), findings):
        turned = list(zip(*block.rows, strict=True))
        for name, place in places.items():
            cells[name].add(turned[place], block.lines)
        lines.append(np.array(block.lines, np.int64))
    if not lines:
        findings.check()
        raise findings.refuse("no_rows", "There is a header and no row below it.", expected="rows of data")
    return Table({name: cell.column() for name, cell in cells.items()}, np.concatenate(lines))


def _cells(
    name: str, kind: Kind, decimal: str, missing: frozenset[str], findings: Findings
) -> NumberCells | TextCells:
    if kind == "numbers":
        return NumberCells(name, missing, decimal, findings)
    return TextCells(name, missing, findings)


def _header(reader: "Iterator[list[str]]", findings: Findings) -> list[str]:
    header = next((row for row in reader if any(cell.strip() for cell in row)), None)
    if header is None:
        raise findings.refuse("empty_file", "The file holds no line with text.", expected="a header line")
    names = [composed(name.strip()) for name in header]
    if len(names) > MOST_COLUMNS:
        message = f"The file has {len(names):,} columns."
        raise findings.refuse("too_many_columns", message, expected=f"at most {MOST_COLUMNS:,}")
    if all(NUMBER.fullmatch(name.replace(",", ".")) for name in names):
        message = "The first line holds numbers only; it must name the columns."
        raise findings.refuse(
            "no_header", message, line=1, received=", ".join(names[:8]), expected="a header line"
        )
    check_names(names, findings)
    return names


def check_names(names: Sequence[str], findings: Findings) -> None:
    """Refuse names that occur twice or are no names; raises FileRefused."""
    for name in names:
        check_name(name, findings, line=1)
    for name, count in Counter(names).items():
        if name and count > 1:
            message = f"{count} columns are named `{name}`."
            findings.add(
                "duplicate_column", message, line=1, column=name, received=name, expected="a name for each"
            )
    findings.check()


def _blocks(reader: "Iterator[list[str]]", width: int, findings: Findings) -> Iterator[_Block]:
    most = max(1, BLOCK_CELLS // width)
    block = _Block()
    # csv's reader says at which line a row ended; with line breaks in quotes it began earlier.
    before: int = reader.line_num  # type: ignore[attr-defined]
    for row in reader:
        line, before = before + 1, reader.line_num  # type: ignore[attr-defined]
        if not row and width == 1:
            # With one column a row without a value is an empty line.
            row = [""]
        if len(row) == width:
            block.rows.append(row)
            block.lines.append(line)
            if len(block.rows) == most:
                yield block
                block = _Block()
        elif row:
            _ragged(row, width, line, findings)
    if block.rows:
        yield block


def _ragged(row: list[str], width: int, line: int, findings: Findings) -> None:
    message = f"Rows have another number of values than the header, which has {width}."
    received = f"{len(row)} value{'' if len(row) == 1 else 's'}: {', '.join(row)[:100]}"
    findings.add(
        "ragged_row",
        message,
        line=line,
        received=received,
        expected=f"{width} values; quotation marks around a value that holds the delimiter",
    )

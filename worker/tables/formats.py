"""Which of the formats a file has, by its first bytes; what cannot be read is refused with what would do."""

import zipfile
from pathlib import Path, PurePath
from typing import Final, Literal

from worker.tables.findings import Findings

Format = Literal["csv", "parquet", "npz", "idx"]

READ: Final = "CSV, Parquet, NPZ or idx"
_HEAD_BYTES: Final = 4096
_NEVER_TEXT: Final = frozenset({".parquet", ".npz", ".npy", ".xlsx", ".xls", ".zip", ".gz"})
# First bytes, what such a file is, and what to do with it.
_REFUSED: Final = (
    (b"\x1f\x8b", "compressed with gzip", "the file after `gunzip FILE`"),
    (b"BZh", "compressed with bzip2", "the file after `bunzip2 FILE`"),
    (b"\xfd7zXZ", "compressed with xz", "the file after `unxz FILE`"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "the file after `unzstd FILE`"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "the table in it, unpacked"),
    (b"Rar!", "a RAR archive", "the table in it, unpacked"),
    (b"\x93NUMPY", "a single array (npy)", "inputs and targets in one file: np.savez(FILE, x=x, y=y)"),
    (b"\x89HDF", "an HDF5 file", "np.savez(FILE, x=x, y=y)"),
    (b"\x80\x02", "a pickle, which runs code when it is opened", READ),
    (b"\x80\x03", "a pickle, which runs code when it is opened", READ),
    (b"\x80\x04", "a pickle, which runs code when it is opened", READ),
    (b"\x80\x05", "a pickle, which runs code when it is opened", READ),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "the sheet, saved as CSV UTF-8"),
    (b"SQLite format 3", "an SQLite database", "the table in it, written as CSV or Parquet"),
    (b"%PDF", "a PDF", READ),
    (b"\x89PNG", "a picture", READ),
    (b"<!DOCTYPE", "an HTML page, perhaps instead of a download", READ),
    (b"<html", "an HTML page, perhaps instead of a download", READ),
    (b"ARROW1", "an Arrow (Feather) file", "the table written as Parquet"),
    (b"ORC", "an ORC file", "the table written as Parquet"),
)


def format_of(path: Path, filename: str, findings: Findings) -> Format:
    """The file's format; `filename` is what its owner calls it. Raises FileRefused."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise findings.refuse("empty_file", "The file is empty.", received="0 bytes", expected=READ)
    for magic, what, instead in _REFUSED:
        if head.startswith(magic):
            raise findings.refuse("unsupported_format", f"The file is {what}.", expected=instead)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK"):
        return _zip_format(path, findings)
    if head[:2] == b"\0\0" and len(head) >= 4 and head[2] in range(0x08, 0x0F):
        return "idx"
    return _text_format(head, filename, findings)


def _zip_format(path: Path, findings: Findings) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        message = f"The file begins as a zip or NPZ file and is damaged: {error}."
        raise findings.refuse("damaged_file", message, expected="the whole file") from None
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if "xl/workbook.xml" in names:
        message, instead = "The file is an Excel workbook.", "the sheet, saved as CSV UTF-8"
    else:
        message, instead = "The file is a zip archive; archives are not unpacked here.", "the table in it"
    raise findings.refuse("unsupported_format", message, received=", ".join(names[:5]), expected=instead)


def _text_format(head: bytes, filename: str, findings: Findings) -> Format:
    if head[257:262] == b"ustar":
        raise findings.refuse("unsupported_format", "The file is a tar archive.", expected="the table in it")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = "The text is written in UTF-16."
        raise findings.refuse("not_utf8", message, line=1, expected="UTF-8; Excel calls it CSV UTF-8")
    if b"\0" in head:
        message = "The file is neither text nor a format that is read here."
        raise findings.refuse("unsupported_format", message, received=head[:8].hex(" "), expected=READ)
    if head.lstrip().startswith((b"{", b"[")):
        raise findings.refuse("unsupported_format", "The file looks like JSON.", expected=READ)
    ending = PurePath(filename).suffix.lower()
    if ending in _NEVER_TEXT:
        message = f"The file is named {ending} and holds text."
        received = head[:60].decode("utf-8", "replace")
        raise findings.refuse("damaged_file", message, received=received, expected=f"a {ending} file, or CSV")
    return "csv"

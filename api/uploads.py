"""A multipart body that goes to disk as it comes: hashed on the way, held neither in memory nor in /tmp."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from flask import request
from werkzeug.datastructures import FileStorage, MultiDict

from api.contract import LARGEST_BODY
from api.multipart import Form as Parsed
from api.multipart import read_form
from services.documents import read_document
from services.errors import TrainshedError
from services.problems import DocumentUnreadable, Problem, SpecInvalid
from services.uploads import ReceivedFile
from services.wording import nearest

FIELDS = ("file", "targets", "meta")


class DiskFull(TrainshedError):
    """There is no room for the files."""

    def __init__(self) -> None:
        super().__init__("The server has no room for the file; nothing was kept. Try again later.")


@dataclass(frozen=True)
class Form:
    """What came: `meta` as plain data, and the files by field, whole on disk under the field's name."""

    meta: object
    files: dict[str, ReceivedFile]


class _FileOnDisk(RawIOBase):
    """Where one part of the body goes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file = path.open("xb")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        # Werkzeug goes back to the start when a part is complete, for somebody who would read it.
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()

    def complete(self, name: str) -> ReceivedFile:
        """Make it last under the field's name, before anybody is told that it is there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.rename(self.path.with_name(name))
        return ReceivedFile("", self.bytes, self._digest.hexdigest())


@contextmanager
def received_form(folder: Path, most_bytes: int) -> Iterator[Form]:
    """Read the request's body into `folder`; the folder goes again if the block raises.

    Raises SpecInvalid for parts that are missing or too many, 413 for a body larger than `most_bytes`,
    DiskFull.
    """
    try:
        folder.mkdir(parents=True)
        yield _receive(folder, most_bytes)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from error
        raise


def _receive(folder: Path, most_bytes: int) -> Form:
    if request.mimetype != "multipart/form-data":
        came = request.mimetype or "a body without Content-Type"
        message = f"{came} is not read; send multipart/form-data with the parts `file` and `meta`."
        raise DocumentUnreadable("unsupported_media_type", message)
    fields, files = _parse(folder, most_bytes)
    try:
        if problems := [*_wrong_parts(fields, files)]:
            raise SpecInvalid(problems)
        meta = _meta(fields, files)
        complete = {name: _complete(files[name], name) for name in ("file", "targets") if name in files}
    finally:
        for file in files.values():
            file.close()
    _sync(folder)
    return Form(meta, complete)


def _parse(folder: Path, most_bytes: int) -> Parsed:
    parts = 0

    def open_part(*_: object, **__: object) -> IO[bytes]:
        nonlocal parts
        parts += 1
        return cast(IO[bytes], _FileOnDisk(folder / f"part-{parts}"))

    return read_form(open_part, most_bytes, "meta")


def _wrong_parts(fields: MultiDict[str, str], files: MultiDict[str, FileStorage]) -> Iterator[Problem]:
    for name in {*fields, *files}:
        if name not in FIELDS:
            close = nearest(name, FIELDS)
            message = f"There is no part `{name[:80]}`." + (f" Did you mean `{close}`?" if close else "")
            yield Problem(
                "unknown_part", f"/{name[:80]}", message, expected="file, meta, and perhaps targets"
            )
        elif len(fields.getlist(name)) + len(files.getlist(name)) > 1:
            yield Problem("duplicate_part", f"/{name}", f"The part `{name}` came twice.", expected="one")
    for name, what in (("file", "the data"), ("meta", "JSON that says what its columns mean")):
        if name not in files and (name not in fields or name == "file"):
            message = f"The part `{name}` is missing: {what}."
            if name in fields:
                message = f"The part `{name}` came as text, not as a file."
            yield Problem("missing_part", f"/{name}", message, expected=_example(name))
    if "targets" in fields:
        message = "The part `targets` came as text, not as a file."
        yield Problem("missing_part", "/targets", message, expected=_example("targets"))


def _example(name: str) -> str:
    return f"such as curl -F {name}=@FILE" if name != "meta" else "such as curl -F meta=@meta.json"


def _meta(fields: MultiDict[str, str], files: MultiDict[str, FileStorage]) -> object:
    try:
        if "meta" in fields:
            return read_document(fields["meta"].encode(), "application/json", limit=LARGEST_BODY)
        part = cast(_FileOnDisk, files["meta"].stream)
        part.close()
        kind = "application/json" if files["meta"].mimetype == "application/octet-stream" else None
        with part.path.open("rb") as file:
            body = file.read(LARGEST_BODY + 1)
        return read_document(body, kind or files["meta"].mimetype, limit=LARGEST_BODY)
    except DocumentUnreadable as error:
        message = f"`meta` cannot be read: {error}"
        raise SpecInvalid([Problem(error.code, "/meta", message, expected="one JSON object")]) from None
    finally:
        if "meta" in files:
            cast(_FileOnDisk, files["meta"].stream).path.unlink(missing_ok=True)


def _complete(file: FileStorage, name: str) -> ReceivedFile:
    stored = cast(_FileOnDisk, file.stream).complete(name)
    # Browsers of old sent whole paths; the name is for people and is never opened.
    filename = (file.filename or name).replace("\0", "").replace("\\", "/").rpartition("/")[2][:255]
    return ReceivedFile(filename or name, stored.bytes, stored.sha256)


def _sync(folder: Path) -> None:
    for one in (folder, folder.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

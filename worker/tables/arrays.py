"""Reads arrays: NPZ without pickle, and pairs of idx files. Sizes are checked before anything is unpacked."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from numpy.lib import format as npy
from numpy.typing import NDArray

from services.spelling import composed
from services.wording import nearest
from worker.sources.idx import NotIdx, parse_idx
from worker.tables.findings import FileRefused, Findings

# The name that a part has here, and the names that files give it.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "x": ("x", "x_train"),
    "y": ("y", "y_train"),
    "x_validation": ("x_validation", "x_val", "x_valid"),
    "y_validation": ("y_validation", "y_val", "y_valid"),
    "x_test": ("x_test",),
    "y_test": ("y_test",),
}
# What zipfile and NumPy raise for files that are damaged, encrypted, or made to do harm.
UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    RuntimeError,
    SystemError,
)
MOST_BYTES: Final = 1024 * 2**20
MOST_ARRAYS: Final = 100
EXPECTED: Final = "x and y, or x_train and y_train; also x_test, y_test, x_validation, y_validation"

Arrays = dict[str, NDArray[Any]]


def read_npz(path: Path, findings: Findings, *, weight: str | None = None, only_x: bool = False) -> Arrays:
    """The arrays of an NPZ file by the names of NAMES, and `weight`; raises FileRefused."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, findings, weight, only_x=only_x)
            _check_sizes(archive, members, findings)
            return {key: _array(archive, name) for key, name in members.items()}
    except FileRefused:
        raise
    except UNREADABLE as error:
        message = f"The NPZ file cannot be read: {str(error)[:200]}."
        raise findings.refuse("damaged_file", message, expected="a whole file of np.savez") from None


def _members(
    archive: zipfile.ZipFile, findings: Findings, weight: str | None, *, only_x: bool
) -> dict[str, str]:
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if len(names) > MOST_ARRAYS:
        message = f"The file holds {len(names):,} arrays."
        raise findings.refuse("too_many_arrays", message, expected=f"at most {MOST_ARRAYS}: {EXPECTED}")
    wanted = {"x": NAMES["x"]} if only_x else dict(NAMES)
    if weight is not None:
        wanted["weight"] = tuple(name for name in names if composed(name) == weight)
    found: dict[str, str] = {}
    for key, spellings in wanted.items():
        there = [name for name in spellings if name in names]
        if len(there) > 1 or names.count(there[0] if there else "") > 1:
            message = f"Several arrays could be `{key}`: {', '.join(there)}."
            findings.add("duplicate_array", message, column=key, expected="one of them")
        elif there:
            found[key] = there[0]
    _check_names(names, found, findings, weight, only_x=only_x)
    findings.check()
    return found


def _check_names(
    names: list[str], found: dict[str, str], findings: Findings, weight: str | None, *, only_x: bool
) -> None:
    needed = ["x"] if only_x else ["x", "y", *([] if weight is None else ["weight"])]
    for split in ("validation", "test"):
        if not only_x and (f"x_{split}" in found) != (f"y_{split}" in found):
            needed += [f"x_{split}", f"y_{split}"]
    for key in needed:
        if key not in found:
            name = weight if key == "weight" else key
            message = f"There is no array `{name}`."
            findings.add("missing_array", message, column=name, received=", ".join(names), expected=EXPECTED)
    known = [name for spellings in NAMES.values() for name in spellings]
    for name in names:
        if name not in found.values() and name not in known:
            close = nearest(name, known)
            message = f"The array `{name}` is not used." + (f" Did you mean `{close}`?" if close else "")
            findings.warn("unused_array", message, column=name, expected=EXPECTED)


def _check_sizes(archive: zipfile.ZipFile, members: dict[str, str], findings: Findings) -> None:
    total = 0
    for name in members.values():
        with archive.open(f"{name}.npy") as member:
            version = npy.read_magic(member)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(member)
        if dtype.names is not None:
            message = f"`{name}` holds records with named fields."
            findings.add(
                "wrong_type", message, column=name, received=str(dtype)[:100], expected="plain numbers"
            )
        elif dtype.hasobject:
            message = f"`{name}` holds Python objects, which are not read: opening them could run code."
            findings.add("unsafe_array", message, column=name, received=str(dtype)[:100], expected="numbers")
        total += math.prod(shape) * dtype.itemsize
    findings.check()
    if total > MOST_BYTES:
        message = f"The arrays take {total / 2**20:,.0f} MB when they are unpacked."
        wanted = f"at most {MOST_BYTES // 2**20:,} MB"
        raise findings.refuse("too_large", message, received=total, expected=wanted)


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
    return array


def read_idx(path: Path, findings: Findings) -> NDArray[Any]:
    """The array of one idx file; raises FileRefused."""
    if path.stat().st_size > MOST_BYTES:
        raise findings.refuse("too_large", "The idx file is too large.", expected=f"{MOST_BYTES:,} bytes")
    try:
        return parse_idx(path.read_bytes())
    except NotIdx as error:
        message = f"The idx file {error}"
        raise findings.refuse("damaged_file", message, expected="a whole idx file") from None

"""The original files of the catalogue's datasets: how to know the right ones, and how to read them."""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.sources.idx import NotIdx, parse_idx
from worker.sources.material import Material, SourceFailed
from worker.sources.scikit_learn import split_california


@dataclass(frozen=True)
class Originals:
    """The files of one dataset by name, and their reader; the reader refuses every file but the right one."""

    files: tuple[str, ...]
    read: Callable[[Path], Material]


# Shape, and SHA-256 after unzipping, of the files of https://github.com/zalandoresearch/fashion-mnist.
# Debian zips the same content differently.
FASHION_MNIST_CONTENT: Final = {
    "train-images-idx3-ubyte.gz": (
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": (
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": (
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
_IDX_LIMIT: Final = 60_000 * 28 * 28 + 16

# The digest that Keras itself asks of this file.
MNIST_FILE: Final = "mnist.npz"
MNIST_SHA256: Final = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"

CALIFORNIA_FILES: Final = ("california_housing.csv.gz", "california_housing.csv")
CALIFORNIA_HEADER: Final = (
    "MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,MedHouseVal"
)
# Of the table as little-endian float32 in C order, in the row order of scikit-learn's fetcher.
CALIFORNIA_TABLE_SHA256: Final = "e06852d3b7fab98aa0054c1d2392029b84ab627709e6568b7980333fef90476f"
_CSV_LIMIT: Final = 8 * 2**20


def read_fashion_mnist(folder: Path) -> Material:
    """Four gzipped idx files."""
    train_x, train_y, test_x, test_y = (_read_fashion_file(folder / file) for file in FASHION_MNIST_CONTENT)
    return Material(train_x, train_y, test_x, test_y)


def read_mnist(folder: Path) -> Material:
    """Keras's mnist.npz, which holds x_train, y_train, x_test and y_test."""
    content = _read(folder / MNIST_FILE)
    _check_digest(folder / MNIST_FILE, hashlib.sha256(content).hexdigest(), MNIST_SHA256)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return Material(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SourceFailed(f"{folder / MNIST_FILE} cannot be read as arrays ({error}).") from error


def read_california_housing(folder: Path) -> Material:
    """The table in scikit-learn's form as CSV, split as `train_test_split(random_state=42)` does."""
    path = next(
        (folder / file for file in CALIFORNIA_FILES if (folder / file).exists()), folder / CALIFORNIA_FILES[0]
    )
    header, *lines = _read_text(path).splitlines() or [""]
    if header != CALIFORNIA_HEADER:
        raise SourceFailed(f"{path} has the header {header[:100]!r}, expected {CALIFORNIA_HEADER!r}.")
    try:
        table = np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError as error:
        raise SourceFailed(f"{path} is no table of numbers ({error}).") from error
    digest = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()
    _check_digest(path, digest, CALIFORNIA_TABLE_SHA256)
    return split_california(table, CALIFORNIA_HEADER.split(","))


FASHION_MNIST: Final = Originals(tuple(FASHION_MNIST_CONTENT), read_fashion_mnist)
MNIST: Final = Originals((MNIST_FILE,), read_mnist)
CALIFORNIA_HOUSING: Final = Originals(CALIFORNIA_FILES, read_california_housing)


def _read_fashion_file(path: Path) -> NDArray[Any]:
    shape, sha256 = FASHION_MNIST_CONTENT[path.name]
    content = _unzipped(path, limit=_IDX_LIMIT)
    try:
        array = parse_idx(content)
    except NotIdx as error:
        raise SourceFailed(f"{path} {error}") from error
    if array.shape != shape:
        raise SourceFailed(f"{path} holds the shape {array.shape}, expected {shape}.")
    _check_digest(path, hashlib.sha256(content).hexdigest(), sha256)
    return array


def _check_digest(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise SourceFailed(
            f"{path} is not the original: its content has the SHA-256 {found}, expected {expected}."
        )


def _read_text(path: Path) -> str:
    return _unzipped(path, limit=_CSV_LIMIT).decode("utf-8-sig", errors="replace")


def _unzipped(path: Path, *, limit: int) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(limit + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceFailed(f"{path} cannot be unzipped ({error}).") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > limit:
        raise SourceFailed(f"{path} holds more than {limit} bytes.")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> SourceFailed:
    if isinstance(error, FileNotFoundError):
        return SourceFailed(f"{path} is not there.")
    return SourceFailed(f"{path} cannot be read: {error.strerror}.")

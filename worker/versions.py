"""Dataset versions: arrays in a folder that is named by the SHA-256 of their content, written once.

The digest runs over these bytes. For each of train/x, train/y, test/x, test/y, and train/w where the schema
names a weight: one line of JSON `[part, dtype, shape]`, where dtype is NumPy's little-endian code such as
`<f4` or `|u1`, then the values in C order. After the parts: the schema as compact JSON with sorted keys,
without `name` and without fields that have their default. So equal data under two names is one version, and
a field that the schema gains later, if it has a default, leaves old digests valid.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydantic
from numpy.typing import NDArray

from services.errors import TrainshedError
from services.schema import DatasetSchema, Task

PARTS: Final = ("train/x", "train/y", "test/x", "test/y")

Arrays = Mapping[str, NDArray[Any]]

WEIGHTS: Final = "train/w"

CHUNK_BYTES: Final = 16 * 2**20


class SchemaMismatch(TrainshedError):
    """The arrays are not what the schema says; `differences` holds one sentence for each."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(" ".join(differences))
        self.differences = differences


class DamagedVersion(TrainshedError):
    """The stored files are not those that the version was named for."""

    def __init__(self, sha256: str, why: str) -> None:
        super().__init__(f"Dataset version {sha256} is damaged: {why}")
        self.sha256 = sha256


def store_version(root: Path, schema: DatasetSchema, arrays: Arrays) -> str:
    """Write the arrays to `root`/datasets/<SHA-256> and return the SHA-256; what is there already stays.

    `arrays` has one numeric array for each part, rows on axis 0. Raises SchemaMismatch.
    """
    arrays = {part: _little_endian(arrays[part]) for part in parts_of(schema)}
    if differences := differences_from(schema, arrays):
        raise SchemaMismatch(differences)
    sha256 = content_sha256(schema, arrays)
    if not _folder(root, sha256).exists():
        _write(_folder(root, sha256), schema, arrays)
    return sha256


def parts_of(schema: DatasetSchema) -> tuple[str, ...]:
    """The arrays that a version with this schema has."""
    return PARTS if schema.weight is None else (*PARTS, WEIGHTS)


def verify_version(root: Path, sha256: str) -> None:
    """Read the whole stored version again; raises DamagedVersion if it is not what its name says."""
    folder = _folder(root, sha256)
    try:
        schema = DatasetSchema.model_validate_json((folder / "schema.json").read_bytes())
        arrays = {
            part: np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in parts_of(schema)
        }
    except (OSError, EOFError, ValueError, pydantic.ValidationError) as error:
        raise DamagedVersion(sha256, f"it cannot be read ({error}).") from error
    found = content_sha256(schema, arrays)
    if found != sha256:
        raise DamagedVersion(sha256, f"its content has the SHA-256 {found}.")


def content_sha256(schema: DatasetSchema, arrays: Arrays) -> str:
    """The digest that this module's docstring defines."""
    digest = hashlib.sha256()
    for part in parts_of(schema):
        array = arrays[part]
        digest.update(json.dumps([part, array.dtype.str, list(array.shape)]).encode() + b"\n")
        for chunk in _chunks(array):
            digest.update(chunk)
    meaning = schema.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    digest.update(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def with_target_range(schema: DatasetSchema, arrays: Arrays) -> DatasetSchema:
    """The schema with the smallest and the largest target of the unsealed rows, if it is a regression."""
    if schema.task is not Task.REGRESSION:
        return schema
    targets = arrays["train/y"]
    limits = {"minimum": float(targets.min()), "maximum": float(targets.max())}
    return schema.model_copy(update={"target": schema.target.model_copy(update=limits)})


def differences_from(schema: DatasetSchema, arrays: Arrays) -> list[str]:
    """One sentence for each way in which the arrays are not what the schema says."""
    differences = []
    for part, shape, dtype in _expected(schema):
        array = arrays[part]
        if array.shape != shape or array.dtype.name != dtype:
            differences.append(f"{part} is {array.dtype.name} {array.shape}, expected {dtype} {shape}.")
        elif not np.isfinite(array).all():
            differences.append(f"{part} holds values that are not finite numbers.")
        elif part.endswith("/y") and (stray := _stray_class(schema, array)) is not None:
            differences.append(f"{part} holds the class id {stray}, which has no class name.")
        elif part == WEIGHTS and (array < 0).any():
            differences.append(f"{part} holds negative weights.")
    return differences


def _expected(schema: DatasetSchema) -> list[tuple[str, tuple[int, ...], str]]:
    features, target, rows = schema.features, schema.target, schema.rows
    expected = [
        ("train/x", (rows.train, *features.shape), features.dtype),
        ("train/y", (rows.train, *target.shape), target.dtype),
        ("test/x", (rows.test, *features.shape), features.dtype),
        ("test/y", (rows.test, *target.shape), target.dtype),
    ]
    return expected if schema.weight is None else [*expected, (WEIGHTS, (rows.train,), "float32")]


def _stray_class(schema: DatasetSchema, ids: NDArray[Any]) -> int | None:
    if schema.task not in {Task.BINARY, Task.MULTICLASS}:
        return None
    stray = ids[(ids < 0) | (ids >= schema.target.classes)]
    return int(stray[0]) if stray.size else None


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _chunks(array: NDArray[Any]) -> Iterator[bytes]:
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    step = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, len(array), step):
        yield array[start : start + step].tobytes()


def _folder(root: Path, sha256: str) -> Path:
    return root / "datasets" / sha256


def _write(folder: Path, schema: DatasetSchema, arrays: Arrays) -> None:
    with _temporary_folder(folder.parent) as temporary:
        (temporary / "train").mkdir(mode=0o755)
        (temporary / "test").mkdir(mode=0o700)
        for part in arrays:
            _write_array(temporary / f"{part}.npy", arrays[part])
        _write_schema(temporary / "schema.json", schema)
        for written in (temporary / "train", temporary / "test", temporary):
            _sync(written)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process stored the same content first: a rename never replaces a folder that has files.
            if not folder.is_dir():
                raise
    _sync(folder.parent)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=parent))
    temporary.chmod(0o755)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with path.open("xb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o400 if path.parent.name == "test" else 0o444)


def _write_schema(path: Path, schema: DatasetSchema) -> None:
    with path.open("xb") as file:
        file.write(schema.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

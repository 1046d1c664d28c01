"""What a user hands over as data, made into what is sent: a file, or rows in JSON."""

import gzip
import importlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

from trainshed.errors import FileUnreadable, NoSuchFile

MOST_INSTANCES = 10_000  # what the server takes as JSON
LARGEST_JSON = 1_000_000  # characters; more travels better as a file
MISSING = frozenset({"NAType", "NaTType"})  # pandas's
ROWS = "a list of rows, a pandas DataFrame, a NumPy array or a file's path"


class Payload(NamedTuple):
    """A file to send, open at its beginning."""

    filename: str
    file: IO[bytes]


def payload(data: object, name: str) -> Payload:
    """A file: one on disk (.gz is unpacked), a pandas DataFrame, or NumPy arrays by name.

    A DataFrame is sent as Parquet, as CSV where pyarrow is missing or cannot hold it; its index is left out.
    Raises NoSuchFile, FileUnreadable, TypeError.
    """
    if isinstance(data, str | Path):
        return _opened(Path(data))
    if is_frame(data):
        return _parquet(data, name) or _csv(data, name)
    if isinstance(data, Mapping) and data and all(map(is_array, data.values())):
        return _npz(data, name)
    raise TypeError(
        f"Data is a file's path, a pandas DataFrame or a mapping of NumPy arrays, not {type(data).__name__}."
    )


def rows(data: object) -> list[Any] | Payload:
    """Rows to predict: JSON for a list and for a small array, a file for the rest. Raises as payload()."""
    if isinstance(data, str | Path) or is_frame(data):
        return payload(data, "rows")
    if is_array(data):
        listed = plain(data)
        is_large = len(listed) > MOST_INSTANCES or len(json.dumps(listed)) > LARGEST_JSON
        return payload({"x": data}, "rows") if is_large else listed
    if isinstance(data, Mapping):
        return [plain(data)]
    if isinstance(data, Sequence):
        return [plain(row) for row in data]
    raise TypeError(f"Rows are {ROWS}, not {type(data).__name__}.")


def plain(value: Any) -> Any:
    """A value as JSON has it: NumPy's and pandas's become Python's, what is missing becomes None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    is_missing = isinstance(value, float) and math.isnan(value)
    return None if is_missing or type(value).__name__ in MISSING else value


# By what they can do: importing pandas or NumPy to ask would make everybody wait for them.
def is_frame(data: Any) -> bool:
    """Whether it is a pandas DataFrame."""
    return hasattr(data, "to_parquet") and hasattr(data, "to_csv")


def is_array(data: Any) -> bool:
    """Whether it is a NumPy array, or as good as one."""
    return hasattr(data, "__array__") and hasattr(data, "tolist") and not is_frame(data)


def _opened(path: Path) -> Payload:
    if not path.is_file():
        raise NoSuchFile(path)
    if path.suffix != ".gz":
        return Payload(path.name, path.open("rb"))
    file = TemporaryFile()  # noqa: SIM115 (whoever sends it closes it)
    try:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, file)
    except (EOFError, gzip.BadGzipFile) as error:
        file.close()
        raise FileUnreadable(path, f"it is no whole gzip file ({error})") from error
    return _rewound(path.stem, file)


def _parquet(frame: Any, name: str) -> Payload | None:
    file = TemporaryFile()  # noqa: SIM115
    try:
        frame.to_parquet(file, index=False)
    except (ImportError, TypeError, ValueError):
        # No pyarrow, or a column of mixed types: as CSV the server can say line, column and value.
        file.close()
        return None
    return _rewound(f"{name}.parquet", file)


def _csv(frame: Any, name: str) -> Payload:
    file = TemporaryFile()  # noqa: SIM115
    frame.to_csv(file, index=False)
    return _rewound(f"{name}.csv", file)


def _npz(arrays: Mapping[str, Any], name: str) -> Payload:
    file = TemporaryFile()  # noqa: SIM115
    # Whoever has arrays has NumPy.
    importlib.import_module("numpy").savez_compressed(file, **arrays)
    return _rewound(f"{name}.npz", file)


def _rewound(filename: str, file: IO[bytes]) -> Payload:
    file.flush()
    file.seek(0)
    return Payload(filename, file)

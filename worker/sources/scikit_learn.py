"""scikit-learn's own tables and its fetcher, and the splits that seal the test rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import train_test_split

from worker.sources.bounded import run_python
from worker.sources.material import Material, SourceFailed

SEED: Final = 42
SMALL_TEST_FRACTION: Final = 0.2

_LOADERS: Final[dict[str, Callable[[], Any]]] = {
    "iris": datasets.load_iris,
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
}

# A process of its own: the data home is a pickle, and looking up a host name has no timeout.
_FETCH: Final = """
import socket, sys
import numpy as np
from sklearn.datasets import fetch_california_housing
socket.setdefaulttimeout(10)
data_home, download, target = sys.argv[1:]
bunch = fetch_california_housing(data_home=data_home, download_if_missing=download == "yes", n_retries=1)
header = ",".join([*bunch.feature_names, *bunch.target_names])
table = np.column_stack([bunch.data, bunch.target])
np.savetxt(target, table, fmt="%.17g", delimiter=",", header=header, comments="")
"""
_FETCH_SECONDS: Final = 120.0


def load_small(name: str) -> Material:
    """A table from scikit-learn's own files; a fifth of the rows is sealed, stratified by class."""
    bunch = _LOADERS[name]()
    class_names = [str(class_name) for class_name in bunch.get("target_names", [])]
    features = bunch.images if name == "digits" else bunch.data
    targets = bunch.target.astype("uint8" if class_names else "float32")
    train_x, test_x, train_y, test_y = train_test_split(
        features.astype("float32"),
        targets,
        test_size=SMALL_TEST_FRACTION,
        stratify=targets if class_names else None,
        random_state=SEED,
    )
    feature_names = None if name == "digits" else [str(column) for column in bunch.feature_names]
    return Material(train_x, train_y, test_x, test_y, feature_names, class_names or None)


def split_california(table: NDArray[np.float64], columns: list[str]) -> Material:
    """The last column is the target; split as scikit-learn's `train_test_split(X, y, random_state=42)` does.

    The remaining rows keep the order in which scikit-learn returns them, so that a second split of them
    with the same seed gives the validation rows that a notebook would have.
    """
    values = table.astype("float32")
    train_x, test_x, train_y, test_y = train_test_split(values[:, :-1], values[:, -1], random_state=SEED)
    return Material(train_x, train_y, test_x, test_y, columns[:-1])


def california_in_data_home(_cache: Path, workspace: Path) -> Path:
    """What scikit-learn downloaded for this user before."""
    data_home = Path.home() / "scikit_learn_data"
    if not any(data_home.glob("cal_housing*.pkz")):
        raise SourceFailed(f"{data_home} holds no cal_housing file.")
    return _fetched(data_home, workspace, download=False)


def california_fetched(_cache: Path, workspace: Path) -> Path:
    """scikit-learn's fetcher, which checks the digest of what it downloads."""
    return _fetched(workspace / "data_home", workspace, download=True)


def _fetched(data_home: Path, workspace: Path, *, download: bool) -> Path:
    table = workspace / "california_housing.csv"
    run_python(
        _FETCH,
        str(data_home),
        "yes" if download else "no",
        str(table),
        seconds=_FETCH_SECONDS,
        folder=workspace,
    )
    return workspace

"""Originals that lie on this machine already: the service's own cache, and Keras's."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path


def in_cache(cache: Path, _workspace: Path) -> Path:
    """The service's own folder of originals for this dataset."""
    return cache


def fashion_mnist_in_keras_home(_cache: Path, _workspace: Path) -> Path:
    """Where `keras.datasets.fashion_mnist` keeps its files."""
    return Path.home() / ".keras" / "datasets" / "fashion-mnist"


def mnist_in_keras_home(_cache: Path, _workspace: Path) -> Path:
    """Where `keras.datasets.mnist` keeps its file."""
    return Path.home() / ".keras" / "datasets"


def keep(files: Iterable[str], folder: Path, cache: Path) -> None:
    """Copy those of the files that are in the folder into the cache, each whole or not at all."""
    if folder == cache:
        return
    cache.mkdir(parents=True, exist_ok=True)
    for file in files:
        if (folder / file).exists():
            _copy(folder / file, cache / file)


def _copy(source: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as temporary:
        copied = Path(temporary) / target.name
        shutil.copyfile(source, copied)
        copied.replace(target)

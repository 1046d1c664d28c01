"""Which sources each dataset of the catalogue has, and asking them in order until one gives the data."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from worker.sources.cache import fashion_mnist_in_keras_home, in_cache, keep, mnist_in_keras_home
from worker.sources.debian_package import PACKAGE, fashion_mnist_unpacked
from worker.sources.keras_downloader import fashion_mnist_downloaded, mnist_downloaded
from worker.sources.material import Material, SourceFailed
from worker.sources.originals import CALIFORNIA_HOUSING, FASHION_MNIST, MNIST, Originals
from worker.sources.scikit_learn import california_fetched, california_in_data_home, load_small

# Gets the dataset's cache folder and an empty folder to work in; gives the folder that holds the originals.
Find = Callable[[Path, Path], Path]


@dataclass(frozen=True)
class Source:
    """One place to get a dataset from; `fetch` gets the dataset's cache folder and raises SourceFailed."""

    name: str
    fetch: Callable[[Path], Material]


def gather(name: str, cache: Path, tried: Callable[[str, str | None], None]) -> Material | None:
    """The data from the first source that has it; None if none has.

    `tried` is called for each source that was asked: with its name, and why it failed or None.
    """
    for source in SOURCES[name]:
        try:
            material = source.fetch(cache)
        except SourceFailed as failure:
            tried(source.name, str(failure))
            continue
        tried(source.name, None)
        return material
    return None


def _from_files(originals: Originals, find: Find, cache: Path) -> Material:
    with tempfile.TemporaryDirectory(prefix="trainshed-") as workspace:
        folder = find(cache, Path(workspace))
        material = originals.read(folder)
        keep(originals.files, folder, cache)
    return material


def _from_scikit_learn(name: str) -> tuple[Source, ...]:
    return (Source("scikit-learn's own files", lambda _cache: load_small(name)),)


def _files(name: str, originals: Originals, find: Find) -> Source:
    return Source(name, partial(_from_files, originals, find))


SOURCES: Final[Mapping[str, tuple[Source, ...]]] = {
    "fashion_mnist": (
        _files("cache", FASHION_MNIST, in_cache),
        _files("Keras's cache", FASHION_MNIST, fashion_mnist_in_keras_home),
        _files("Keras's downloader", FASHION_MNIST, fashion_mnist_downloaded),
        _files(f"Debian's package {PACKAGE}", FASHION_MNIST, fashion_mnist_unpacked),
    ),
    "mnist": (
        _files("cache", MNIST, in_cache),
        _files("Keras's cache", MNIST, mnist_in_keras_home),
        _files("Keras's downloader", MNIST, mnist_downloaded),
    ),
    "california_housing": (
        _files("cache", CALIFORNIA_HOUSING, in_cache),
        _files("scikit-learn's cache", CALIFORNIA_HOUSING, california_in_data_home),
        _files("scikit-learn's fetcher", CALIFORNIA_HOUSING, california_fetched),
    ),
    "iris": _from_scikit_learn("iris"),
    "digits": _from_scikit_learn("digits"),
    "wine": _from_scikit_learn("wine"),
    "breast_cancer": _from_scikit_learn("breast_cancer"),
    "diabetes": _from_scikit_learn("diabetes"),
}

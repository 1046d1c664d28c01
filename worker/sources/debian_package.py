"""Debian's package dataset-fashion-mnist, fetched and unpacked without root and without installing it."""

import shutil
from pathlib import Path
from typing import Final

from worker.sources.bounded import run_program
from worker.sources.material import SourceFailed

PACKAGE: Final = "dataset-fashion-mnist"
_IMAGES: Final = "train-images-idx3-ubyte.gz"

_BOUNDS: Final = [
    "-oAcquire::http::Timeout=10",
    "-oAcquire::https::Timeout=10",
    "-oAcquire::Retries=0",
]
_UPDATE_SECONDS: Final = 120.0
_DOWNLOAD_SECONDS: Final = 180.0
_UNPACK_SECONDS: Final = 60.0


def fashion_mnist_unpacked(_cache: Path, workspace: Path) -> Path:
    """Four gzipped idx files."""
    if shutil.which("apt-get") is None:
        raise SourceFailed("apt-get is not installed on this machine.")
    _download(workspace)
    package = next(workspace.glob(f"{PACKAGE}_*.deb"), None)
    if package is None:
        raise SourceFailed(f"apt-get left no file of {PACKAGE}.")
    run_program(["dpkg-deb", "-x", package.name, "unpacked"], seconds=_UNPACK_SECONDS, folder=workspace)
    images = next((workspace / "unpacked").rglob(_IMAGES), None)
    if images is None:
        raise SourceFailed(f"{package.name} holds no {_IMAGES}.")
    return images.parent


def _download(workspace: Path) -> None:
    """With the machine's package lists, or, where they lack the package, with lists of our own."""
    try:
        _apt_get(["download", PACKAGE], workspace, seconds=_DOWNLOAD_SECONDS)
    except SourceFailed as failure:
        try:
            _download_with_own_lists(workspace)
        except SourceFailed as second_failure:
            raise SourceFailed(
                f"{failure} With package lists of its own: {second_failure}"
            ) from second_failure


def _download_with_own_lists(workspace: Path) -> None:
    state = _own_state(workspace / "apt")
    update_failure = None
    try:
        _apt_get([*state, "-oAPT::Update::Error-Mode=any", "update"], workspace, seconds=_UPDATE_SECONDS)
    except SourceFailed as failure:
        # One archive of several may be away, and the package in another.
        update_failure = failure
    try:
        _apt_get([*state, "download", PACKAGE], workspace, seconds=_DOWNLOAD_SECONDS)
    except SourceFailed as failure:
        raise update_failure or failure from failure


def _apt_get(arguments: list[str], workspace: Path, *, seconds: float) -> None:
    run_program(["apt-get", "-q", *_BOUNDS, *arguments], seconds=seconds, folder=workspace)


def _own_state(folder: Path) -> list[str]:
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    # As root, apt-get would drop to a user that cannot write here.
    return [f"-oDir::State::lists={lists}", f"-oDir::Cache={cache}", "-oAPT::Sandbox::User=root"]

"""A job's raw training state at the end of an epoch, in one npz file without pickle."""

import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from worker.events import CheckpointFile, SavedCheckpoint
from worker.training.data import Array

COST_FACTOR = 33
"""A checkpoint waits for this many times the cost of the one before it: 3 % of the time at most."""
FILE_NAME = re.compile(r"e(\d+)-f(\d+)\.npz(\.tmp)?")


class CheckpointUnusable(Exception):
    """The file is missing, damaged, or was written for another model."""


@dataclass(frozen=True)
class TrainingState:
    """Everything that training goes on from after `epoch`; `facts` is JSON."""

    epoch: int
    weights: list[Array]
    optimizer: list[Array]
    best_weights: list[Array] | None
    facts: dict[str, Any]


class Pace:
    """How often checkpoints are due."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._next = clock()

    def is_due(self) -> bool:
        """Whether the last checkpoint's cost has been earned; the first is due at once, to learn the cost."""
        return self._clock() >= self._next

    def wrote(self, seconds: float) -> None:
        """Take in what a checkpoint cost."""
        self._next = self._clock() + COST_FACTOR * seconds


class CheckpointFolder:
    """The checkpoints of one job, as one attempt sees them: it never touches those of a later attempt."""

    def __init__(self, folder: Path, fence: int) -> None:
        self._folder = folder
        self._fence = fence
        self._kept: list[Path] = []

    def write(self, state: TrainingState) -> SavedCheckpoint:
        """Store the state so that it survives a power cut, then delete all but this and the one before it."""
        began = time.perf_counter()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"e{state.epoch}-f{self._fence}.npz"
        sha256 = write_whole(path, lambda file: _write_npz(file, state))
        self._keep(path)
        return SavedCheckpoint(
            str(path), state.epoch, path.stat().st_size, sha256, time.perf_counter() - began
        )

    def read(self, checkpoint: CheckpointFile) -> TrainingState:
        """The state in a file; raises CheckpointUnusable."""
        path = Path(checkpoint.path)
        try:
            if sha256_of(path) != checkpoint.sha256:
                raise CheckpointUnusable("its SHA-256 is not the one that was recorded")
            state = _read_npz(path)
        except OSError as error:
            raise CheckpointUnusable(error.strerror or "it cannot be read") from error
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CheckpointUnusable(str(error)) from error
        self._kept = [path]
        return state

    def _keep(self, newest: Path) -> None:
        self._kept = [*self._kept[-1:], newest]
        for path in self._folder.iterdir():
            parts = FILE_NAME.fullmatch(path.name)
            if parts and int(parts[2]) <= self._fence and path not in self._kept:
                path.unlink(missing_ok=True)


def _write_npz(file: IO[bytes], state: TrainingState) -> None:
    groups = {
        "weights": state.weights,
        "optimizer": state.optimizer,
        "best_weights": state.best_weights or [],
    }
    arrays = {f"{name}/{i}": array for name, group in groups.items() for i, array in enumerate(group)}
    counts = {name: len(group) for name, group in groups.items()}
    about = {"layout": 1, "epoch": state.epoch, "counts": counts, "facts": state.facts}
    blob = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(file, allow_pickle=False, about=blob, **arrays)


def _read_npz(path: Path) -> TrainingState:
    with np.load(path, allow_pickle=False) as stored:
        about = json.loads(stored["about"].tobytes())
        groups = {
            name: [stored[f"{name}/{i}"] for i in range(count)] for name, count in about["counts"].items()
        }
    best = groups["best_weights"] or None
    return TrainingState(about["epoch"], groups["weights"], groups["optimizer"], best, about["facts"])


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> str:
    """Write a file that is either complete or not there, also after a power cut; returns its SHA-256."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        write(file)
    return put_in_place(temporary, path)


def put_in_place(temporary: Path, path: Path) -> str:
    """Move a complete file to its name and make both durable; returns its SHA-256."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return sha256


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spec_sha256(spec: dict[str, Any]) -> str:
    """The hash of a resolved spec as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()

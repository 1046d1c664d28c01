"""Pictures of a job as files: drawn by a limited child process, kept by the content they show."""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

from services.answers import Confusion, History, LabelCounts, Scatter
from services.errors import TrainshedError

SECONDS_TO_DRAW = 60
# An older picture may be on its way to somebody.
SECONDS_TO_KEEP = 60
# Drawing takes a core and 70 MB for a second or two: one at a time, and only so many wait for it.
_drawing = Lock()
_waiting = BoundedSemaphore(8)

Picture = dict[str, Any]
"""What services.drawing is asked to draw, as JSON; `picture` is its name."""


class DrawingFailed(TrainshedError):
    """The child that draws ended without a picture."""


class DrawingBusy(TrainshedError):
    """Too many pictures are being drawn."""

    def __init__(self) -> None:
        super().__init__("Too many pictures are being drawn. Try again in a few seconds.")


def learning_curves(title: str, history: History) -> Picture:
    """Metrics over epochs, training and validation."""
    return {
        "picture": "learning-curves",
        "title": title,
        "epoch": history.epoch,
        "history": history.history,
    }


def confusion_matrix(title: str, counts: Confusion) -> Picture:
    """How often each true class was taken for each class."""
    return {"picture": "confusion-matrix", "title": title, **counts.model_dump()}


def label_counts(title: str, labels: list[LabelCounts]) -> Picture:
    """The same for labels: hits and misses of each."""
    return {
        "picture": "confusion-matrix",
        "title": title,
        "labels": [label.model_dump() for label in labels],
    }


def predicted_vs_true(title: str, targets: list[Scatter]) -> Picture:
    """One point a row, one panel a target."""
    return {
        "picture": "predicted-vs-true",
        "title": title,
        "targets": [target.model_dump() for target in targets],
    }


def picture_file(folder: Path, picture: Picture, kind: str) -> Path:
    """A file with this picture, `kind` is png or svg; drawn unless it is there already.

    Raises DrawingFailed if the child dies or takes longer than SECONDS_TO_DRAW, DrawingBusy if many wait.
    """
    request = json.dumps(picture)
    digest = hashlib.sha256(request.encode()).hexdigest()[:16]
    path = folder / f"{picture['picture']}-{digest}.{kind}"
    if path.exists():
        return path
    if not _waiting.acquire(blocking=False):
        raise DrawingBusy
    try:
        with _drawing:
            # Somebody who waited in front may have wanted the same picture.
            return path if path.exists() else _store(path, _draw(request, kind), picture["picture"])
    finally:
        _waiting.release()


def _store(path: Path, picture: bytes, name: str) -> Path:
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    _forget_older(folder, f"{name}-*{path.suffix}")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as file:
        file.write(picture)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    return path


def _draw(request: str, kind: str) -> bytes:
    # A process of its own: Matplotlib adds 100 MB to whoever imports it.
    child = [sys.executable, "-m", "services.drawing", kind]
    try:
        done = subprocess.run(
            child, input=request.encode(), capture_output=True, timeout=SECONDS_TO_DRAW, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise DrawingFailed(f"The picture could not be drawn. {said[-1] if said else error}") from error
    return done.stdout


def _forget_older(folder: Path, pattern: str) -> None:
    for older in folder.glob(pattern):
        if time.time() - older.stat().st_mtime > SECONDS_TO_KEEP:
            older.unlink(missing_ok=True)

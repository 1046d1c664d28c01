"""Learning curves as picture files: drawn by a limited child process, kept by the content they show."""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Literal

from services.answers import History
from services.errors import TrainshedError

SECONDS_TO_DRAW = 60
# An older picture may be on its way to somebody.
SECONDS_TO_KEEP = 60
# Drawing takes a core and 70 MB for a second or two: one at a time, and only so many wait for it.
_drawing = Lock()
_waiting = BoundedSemaphore(8)


class DrawingFailed(TrainshedError):
    """The child that draws ended without a picture."""


class DrawingBusy(TrainshedError):
    """Too many pictures are being drawn."""

    def __init__(self) -> None:
        super().__init__("Too many pictures are being drawn. Try again in a few seconds.")


def curves_file(folder: Path, history: History, title: str, kind: Literal["png", "svg"] | str) -> Path:
    """A file with the learning curves of this history, drawn unless it is there already.

    Raises DrawingFailed if the child dies or takes longer than SECONDS_TO_DRAW, DrawingBusy if many wait.
    """
    request = json.dumps({"title": title, "epoch": history.epoch, "history": history.history})
    digest = hashlib.sha256(request.encode()).hexdigest()[:16]
    path = folder / f"learning-curves-{digest}.{kind}"
    if path.exists():
        return path
    if not _waiting.acquire(blocking=False):
        raise DrawingBusy
    try:
        with _drawing:
            # Somebody who waited in front may have wanted the same picture.
            return path if path.exists() else _store(path, _draw(request, kind))
    finally:
        _waiting.release()


def _store(path: Path, picture: bytes) -> Path:
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    _forget_older(folder, path.suffix)
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


def _forget_older(folder: Path, suffix: str) -> None:
    for older in folder.glob(f"learning-curves-*{suffix}"):
        if time.time() - older.stat().st_mtime > SECONDS_TO_KEEP:
            older.unlink(missing_ok=True)

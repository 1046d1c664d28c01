"""Checkpoint files: whole or absent, verified, two at a time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from worker.events import CheckpointFile, SavedCheckpoint
from worker.training.checkpoints import CheckpointFolder, CheckpointUnusable, Pace, TrainingState


def make_state(epoch: int = 0) -> TrainingState:
    random = np.random.default_rng(epoch)
    return TrainingState(
        epoch=epoch,
        weights=[random.normal(size=(3, 2)).astype(np.float32), np.zeros(2, np.float32)],
        optimizer=[np.array(7, np.int64), random.normal(size=(3, 2)).astype(np.float32)],
        best_weights=[np.ones((3, 2), np.float32)],
        facts={"engine": "graph", "best": None, "value": 0.1 + 0.2},
    )


def as_known(saved: SavedCheckpoint) -> CheckpointFile:
    return CheckpointFile(path=saved.path, epoch=saved.epoch, sha256=saved.sha256)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = make_state()
    saved = CheckpointFolder(tmp_path, fence=1).write(written)
    read = CheckpointFolder(tmp_path, fence=2).read(as_known(saved))
    for group in ("weights", "optimizer", "best_weights"):
        for before, after in zip(getattr(written, group), getattr(read, group), strict=True):
            assert (before.dtype, before.shape, before.tobytes()) == (
                after.dtype,
                after.shape,
                after.tobytes(),
            )
    assert (read.epoch, read.facts) == (written.epoch, written.facts)


def test_a_checkpoint_tells_its_size_and_hash(tmp_path: Path) -> None:
    saved = CheckpointFolder(tmp_path, fence=3).write(make_state(epoch=12))
    content = Path(saved.path).read_bytes()
    assert Path(saved.path).name == "e12-f3.npz"
    assert (saved.bytes, saved.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, fence=1)
    for epoch in range(4):
        folder.write(make_state(epoch))
    assert names_in(tmp_path) == ["e2-f1.npz", "e3-f1.npz"]


def test_a_later_attempt_keeps_what_it_resumed_from(tmp_path: Path) -> None:
    first = CheckpointFolder(tmp_path, fence=1)
    first.write(make_state(0))
    resumed_from = first.write(make_state(1))
    second = CheckpointFolder(tmp_path, fence=2)
    second.read(as_known(resumed_from))
    second.write(make_state(2))
    assert names_in(tmp_path) == ["e1-f1.npz", "e2-f2.npz"]


def test_an_attempt_that_lost_its_job_deletes_nothing_of_its_successor(tmp_path: Path) -> None:
    stale = CheckpointFolder(tmp_path, fence=1)
    stale.write(make_state(0))
    CheckpointFolder(tmp_path, fence=2).write(make_state(5))
    for epoch in (1, 2, 3):
        stale.write(make_state(epoch))
    assert "e5-f2.npz" in names_in(tmp_path)


def test_what_a_killed_writer_left_behind_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / "e7-f1.npz.tmp").write_bytes(b"half a file")
    CheckpointFolder(tmp_path, fence=2).write(make_state(0))
    assert names_in(tmp_path) == ["e0-f2.npz"]


@pytest.mark.parametrize("harm", ["a byte", "the end", "the file"])
def test_a_damaged_checkpoint_is_not_used(tmp_path: Path, harm: str) -> None:
    folder = CheckpointFolder(tmp_path, fence=1)
    saved = folder.write(make_state())
    path = Path(saved.path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    match harm:
        case "a byte":
            path.write_bytes(content)
        case "the end":
            path.write_bytes(path.read_bytes()[:-20])
        case _:
            path.unlink()
    with pytest.raises(CheckpointUnusable):
        folder.read(as_known(saved))


def test_a_file_that_is_no_checkpoint_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "e0-f1.npz"
    path.write_bytes(b"PK\x03\x04 but no more")
    known = CheckpointFile(path=str(path), epoch=0, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(CheckpointUnusable):
        CheckpointFolder(tmp_path, fence=1).read(known)


def test_checkpoints_cost_three_percent_at_most() -> None:
    now = 100.0
    pace = Pace(clock=lambda: now)
    assert pace.is_due()
    pace.wrote(seconds=0.5)
    now += 33 * 0.5 - 0.01
    assert not pace.is_due()
    now += 0.02
    assert pace.is_due()

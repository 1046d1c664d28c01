"""What a trainer keeps on the device, in its files and in the folder of compiled programs."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.states import Reason
from tests.test_training import DROPOUT_LAYERS, images, make_order, make_spec, root, run, trainer_for
from worker import events

__all__ = ["images", "root"]


@pytest.mark.parametrize("engine", ["xla", "graph", "keras"])
def test_streamed_data_gives_the_bits_of_data_on_the_device(
    root: Path, images: dict[str, Any], engine: str
) -> None:
    spec = make_spec(
        model={"layers": DROPOUT_LAYERS}, fit__engine=engine, fit__class_weight={"a": 2.0}, fit__epochs=2
    )
    whole = make_order(root, images, spec, job=f"whole-{engine}")
    streamed = make_order(
        root, images, spec, job=f"streamed-{engine}", device={"kind": "cpu", "threads": 2, "data_mb": 0}
    )
    ours, theirs = run(whole, root), run(streamed, root)
    assert [epoch.metrics for epoch in ours[1]] == [epoch.metrics for epoch in theirs[1]]
    assert _checkpoint(ours[1]) == _checkpoint(theirs[1])
    assert [one.metrics for one in ours[0].evaluations] == [one.metrics for one in theirs[0].evaluations]
    assert [(one.engine, "streamed" in one.why) for one in _choices(theirs[2])] == [(engine, True)]
    assert [(one.engine, "streamed" in one.why) for one in _choices(ours[2])] == [(engine, False)]


def _checkpoint(history: list[events.EpochEnded]) -> dict[str, bytes]:
    saved = history[-1].checkpoint
    assert saved is not None
    with np.load(saved.path, allow_pickle=False) as stored:
        return {name: stored[name].tobytes() for name in stored.files if name != "about"}


def _choices(said: list[events.Event]) -> list[events.EngineChosen]:
    return [event for event in said if isinstance(event, events.EngineChosen)]


def test_what_was_compiled_serves_the_next_job_and_a_damaged_program_is_compiled_anew(
    root: Path, images: dict[str, Any]
) -> None:
    spec = make_spec(fit__engine="xla", fit__epochs=2)

    def history(job: str) -> list[Any]:
        order = make_order(root, images, spec, job=job, compiled=str(root / "compiled"))
        return [epoch.metrics for epoch in run(order, root)[1]]

    first = history("compiles")
    [kept] = (root / "compiled").glob("*/*")
    written = kept.stat().st_mtime_ns
    assert history("reads") == first
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(kept.read_bytes()[:1000])
    assert history("compiles-anew") == first
    assert [file.stat().st_size > 1000 for file in (root / "compiled").glob("*/*")] == [True]


def test_a_dataset_file_that_changes_under_the_trainer_ends_the_job(
    root: Path, images: dict[str, Any]
) -> None:
    order = make_order(root, images, make_spec(fit__epochs=1000), job="changing")
    file = Path(images["path"]) / "train" / "y.npy"
    before = file.stat()
    with trainer_for(order, root / "log.txt") as trainer:
        trainer.until(events.EpochEnded)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        verdict = trainer.verdict()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (verdict.reason, "train/y.npy" in verdict.message) == (Reason.BAD_DATA, True)
    assert len(trainer.history()) < 1000


@pytest.mark.parametrize("length", [0, 200])
def test_a_dataset_file_that_is_cut_under_the_trainer_has_a_verdict_at_the_next_try(
    root: Path, images: dict[str, Any], length: int
) -> None:
    """The tensor is the file's pages: the first trainer is killed by the kernel, which is retried."""
    order = make_order(root, images, make_spec(fit__epochs=5000), job=f"cut-{length}")
    file = Path(images["path"]) / "train" / "x.npy"
    whole, times = file.read_bytes(), file.stat()
    with trainer_for(order, root / "log.txt") as trainer:
        trainer.until(events.EpochEnded)
        os.truncate(file, length)
        with pytest.raises(EOFError):
            trainer.verdict()
        trainer.process.join(10)
        assert trainer.process.exitcode == -signal.SIGBUS
    verdict = run(make_order(root, images, make_spec(), job=f"cut-again-{length}"), root)[0]
    file.write_bytes(whole)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (verdict.reason, "train/x.npy" in verdict.message) == (Reason.BAD_DATA, True)

"""Running a part of the work in a child process with limits, which dies with its parent.

A child's module calls `enter` first, then `tell` for each fact: one JSON object a line. One that gets its
order in a file leaves both to `follow_order`.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Final

from services.answers import DataProblem

MEMORY_BYTES: Final = 4 * 2**30
CPU_SECONDS: Final = 600
LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Ended:
    """How a child ended, and what it told."""

    told: list[dict[str, Any]]
    stderr: str
    status: int
    timed_out: bool = False
    """It was killed here: its patience was used up."""
    was_stopped: bool = False
    """It was killed here: `stop` said so."""

    @property
    def how(self) -> str:
        """Half a sentence about its end, with its last line of complaint."""
        last_line = (self.stderr.strip().splitlines() or ["it said nothing"])[-1].replace("\0", "")
        if self.status < 0:
            return f"signal {signal.Signals(-self.status).name}: {last_line}"
        return f"exit status {self.status}: {last_line}"

    @property
    def ran_out_of_time(self) -> bool:
        """Whether it used up its patience or its seconds of CPU."""
        return self.timed_out or self.status == -signal.SIGXCPU


def run_limited(
    module: str,
    arguments: Sequence[str],
    *,
    patience_seconds: float,
    environment: Mapping[str, str] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Ended:
    """Run `python -m module` to its end. `environment` is its own; None: this process's.

    `stop` is asked each LOOK_SECONDS; once it says True, the child and all that it called are killed.
    """
    with _lifeline() as stdin:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--with-parent"],
            cwd=Path(__file__).parents[1],
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            return _wait(child, patience_seconds, stop or (lambda: False))
        finally:
            if child.poll() is None:
                _kill(child)


def _wait(child: "subprocess.Popen[str]", patience_seconds: float, stop: Callable[[], bool]) -> Ended:
    until = time.monotonic() + patience_seconds
    while True:
        try:
            stdout, stderr = child.communicate(timeout=LOOK_SECONDS)
            return told_by(stdout, stderr, child.returncode)
        except subprocess.TimeoutExpired:
            was_stopped = stop()
            if was_stopped or time.monotonic() >= until:
                break
    stdout = _kill(child)
    why = "it was told to stop" if was_stopped else f"it was not done after {patience_seconds:.0f} s"
    ended = told_by(stdout, why, child.returncode)
    return replace(ended, was_stopped=was_stopped, timed_out=not was_stopped)


def _kill(child: "subprocess.Popen[str]") -> str:
    """Kill it with all that it called; returns what it told."""
    os.killpg(child.pid, signal.SIGKILL)
    stdout, _ = child.communicate()
    return stdout


def run_order(
    module: str,
    path: Path,
    order: Mapping[str, Any],
    *,
    patience_seconds: float,
    stop: Callable[[], bool] | None = None,
) -> Ended:
    """Run a child that calls `follow_order` on `order`, which stands in `path` meanwhile.

    A child that cannot be started, such as on a full disk, is one that ended so.
    """
    try:
        path.write_text(json.dumps(order))
        return run_limited(module, [str(path.absolute())], patience_seconds=patience_seconds, stop=stop)
    except OSError as error:
        return Ended([], f"it could not be started: {error.strerror}", 1)
    finally:
        with suppress(OSError):
            path.unlink()


def told_by(stdout: str, stderr: str, status: int) -> Ended:
    """What a child's output says; a line that is no JSON object, or was cut off, is no fact."""
    lines = [line for line in stdout.splitlines(keepends=True) if line.endswith("\n")]
    return Ended([*_facts(lines)], stderr, status)


def _facts(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):
            fact = json.loads(line)
            if isinstance(fact, dict) and "event" in fact:
                yield fact


@contextmanager
def _lifeline() -> Iterator[int]:
    """The reading end of a pipe that ends when this process does, however it does."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def enter(*, with_parent: bool) -> None:
    """In the child, before it imports anything large: end when stdin does; limits on memory and CPU."""
    if with_parent:
        Thread(target=_end_with_stdin, daemon=True).start()
    _limit_resources()


def tell(event: str, **facts: Any) -> None:
    """In the child: say a fact to the parent."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def follow_order(
    module: str, follow: Callable[[dict[str, Any]], int], arguments: Sequence[str] | None
) -> int:
    """In the child: its `main`. A file that takes too much memory is refused."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="Follow an order.")
    parser.add_argument("order", type=Path)
    parser.add_argument("--with-parent", action="store_true", help="end when stdin ends")
    options = parser.parse_args(arguments)
    enter(with_parent=options.with_parent)
    try:
        return follow(json.loads(options.order.read_text()))
    except MemoryError:
        tell("rejected", problems=[_memory_problem().model_dump(mode="json")], warnings=[])
        return 1


def _memory_problem() -> DataProblem:
    return DataProblem(
        code="too_large",
        message=f"Reading the file takes more than {MEMORY_BYTES // 2**30} GB of memory.",
        expected="fewer rows, fewer columns in `features`, or NPZ with uint8 or float32",
    )


def _end_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


def _limit_resources() -> None:
    """Soft limits only: a program that this child calls may lift them with a reason."""
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    # On a machine with many cores the buffers of OpenBLAS's threads alone would reach the limit; Arrow's
    # own allocator reserves much more than it uses.
    os.environ.update(
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS="1",
        ARROW_DEFAULT_MEMORY_POOL="system",
        ARROW_IO_THREADS="1",
    )

"""Running a part of the work in a child process with limits, which dies with its parent.

A child's module calls `enter` first, then `tell` for each fact: one JSON object a line.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

from services.answers import DataProblem

MEMORY_BYTES: Final = 4 * 2**30
CPU_SECONDS: Final = 600


@dataclass(frozen=True)
class Ended:
    """How a child ended, and what it told."""

    told: list[dict[str, Any]]
    stderr: str
    status: int

    @property
    def how(self) -> str:
        """Half a sentence about its end, with its last line of complaint."""
        last_line = (self.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if self.status < 0:
            return f"signal {signal.Signals(-self.status).name}: {last_line}"
        return f"exit status {self.status}: {last_line}"

    @property
    def ran_out_of_time(self) -> bool:
        """Whether it used up its seconds of CPU."""
        return self.status == -signal.SIGXCPU


def run_limited(
    module: str,
    arguments: Sequence[str],
    *,
    patience_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run `python -m module` to its end. `environment` is its own; None: this process's."""
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
            stdout, stderr = child.communicate(timeout=patience_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            stdout, _ = child.communicate()
            stderr = f"it was not done after {patience_seconds:.0f} s"
    return told_by(stdout, stderr, child.returncode)


def told_by(stdout: str, stderr: str, status: int) -> Ended:
    """What a child's output says; a last line that was cut off is no fact."""
    told = [json.loads(line) for line in stdout.splitlines(keepends=True) if line.endswith("\n")]
    return Ended(told, stderr, status)


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


def memory_problem() -> DataProblem:
    """What a child says of a file that does not fit into its memory."""
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

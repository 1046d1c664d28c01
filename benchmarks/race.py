"""Several processes that do the same work by turns, so that what else the machine does hits all alike."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
OTHER_PYTHON = CHECKOUT / ".venv-bench" / "bin" / "python"
"""Has PyTorch and JAX: `make bench-contenders`."""
QUIET_SECONDS = 0.1
"""Thread pools of the one before look for more work so long."""


@dataclass(frozen=True)
class Contender:
    """A way to train; `module` is one of benchmarks/contenders."""

    name: str
    module: str
    argument: str = ""
    needs_other_python: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether its interpreter is there."""
        return not self.needs_other_python or other_python().exists()

    @property
    def command(self) -> list[str]:
        """How it is started from the checkout."""
        python = other_python() if self.needs_other_python else sys.executable
        return [str(python), "-m", f"benchmarks.contenders.{self.module}", *filter(None, [self.argument])]


def other_python() -> Path:
    """The interpreter of `make bench-contenders`, or the one that TRAINSHED_BENCH_PYTHON names."""
    return Path(os.environ.get("TRAINSHED_BENCH_PYTHON", OTHER_PYTHON))


class Runner:
    """A contender's process."""

    def __init__(self, contender: Contender, process: subprocess.Popen[str]) -> None:
        self.name = contender.name
        self._process = process
        hello = self._hear()
        self.versions: dict[str, str] = hello["versions"]
        self.memory_mb: float = hello["memory_mb"]
        """The peak after its imports."""

    def prepare(self, order: dict[str, Any]) -> dict[str, Any]:
        """Let it build and train unmeasured: how long that took, and the threads if it chose how many."""
        began = time.perf_counter()
        self._say(json.dumps(order))
        answer = self._hear()
        return {"contender": self.name, "prepare_seconds": time.perf_counter() - began, **answer}

    def run(self) -> dict[str, float]:
        """One turn: seconds, cpu_seconds, loss, and the peak of memory_mb so far."""
        self._say("go")
        measured = self._hear()
        self._hear()
        return measured

    def rest(self) -> None:
        """End the order."""
        self._say("end")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def started(contenders: Sequence[Contender], log: Path) -> Iterator[list[Runner]]:
    """The processes of those that are installed; what they print goes to the log."""
    with log.open("wb") as errors, ExitStack() as stack:
        processes = [
            (one, stack.enter_context(_process(one, errors))) for one in contenders if one.is_installed
        ]
        yield [Runner(one, process) for one, process in processes]


@contextmanager
def _process(contender: Contender, errors: Any) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.Popen(contender.command, cwd=CHECKOUT, env=environment, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def race(runners: Sequence[Runner], order: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Measure an order that is the same for all."""
    return take_turns(runners, prepared(runners, [order] * len(runners)), rounds)


def prepared(runners: Sequence[Runner], orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let each take its order; to be filled with turns."""
    return [{**runner.prepare(order), "turns": []} for runner, order in zip(runners, orders, strict=True)]


def take_turns(
    runners: Sequence[Runner], measured: list[dict[str, Any]], rounds: int
) -> list[dict[str, Any]]:
    """In each round every runner has one turn, and each round begins with another one."""
    for number in range(rounds):
        for place in range(len(runners)):
            index = (number + place) % len(runners)
            time.sleep(QUIET_SECONDS)
            measured[index]["turns"].append(runners[index].run())
    for runner in runners:
        runner.rest()
    return measured

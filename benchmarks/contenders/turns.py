"""What a contender and the race say to each other: lines of JSON on standard input and output.

The race sends an order, then 'go' for each turn; the contender trains, measures itself, answers, and waits
in a read, which costs nothing.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from numpy import load

Order = dict[str, Any]


class Turns:
    """The turns of one order."""

    def __init__(self, lines: Iterator[str], answers: TextIO) -> None:
        self._lines = lines
        self._answers = answers
        self._began = (0.0, 0.0)
        self.threads: int | None = None
        """Where a contender chose how many."""

    def wait(self) -> bool:
        """Sleep until it is this process's turn; False when the race is over. Call it warm and ready."""
        self._answer({"threads": self.threads})
        is_on = next(self._lines, "end").strip() == "go"
        self._began = (time.perf_counter(), time.process_time())
        return is_on

    def done(self, loss: float) -> None:
        """The turn's work is done; `loss` is a number, so the work is."""
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self._answer({"seconds": wall, "cpu_seconds": cpu, "loss": loss, "memory_mb": _peak_mb()})

    def take(self, epoch: Callable[[], float], epochs_a_turn: int) -> None:
        """Train one epoch unmeasured, then so many each turn; `epoch` gives its mean loss."""
        epoch()
        while self.wait():
            for _ in range(epochs_a_turn):
                loss = epoch()
            self.done(loss)

    def _answer(self, facts: dict[str, Any]) -> None:
        self._answers.write(json.dumps(facts) + "\n")
        self._answers.flush()


def take_part(contend: Callable[[Order, Turns], None], versions: Callable[[], dict[str, str]]) -> None:
    """The life of a contender: `contend` builds what an order says, trains once unmeasured, then by turns."""
    # Libraries print on standard output; the answers keep it for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lines = iter(sys.stdin.readline, "")
    answers.write(json.dumps({"versions": versions(), "memory_mb": _peak_mb()}) + "\n")
    answers.flush()
    for line in lines:
        contend(json.loads(line), Turns(lines, answers))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def choose_threads(run: Callable[[], object], set_threads: Callable[[int], object]) -> int:
    """One thread or all cores, whichever runs faster here: small products are slower on many."""
    counts = {1, len(os.sched_getaffinity(0))}
    taken = {}
    for count in counts:
        set_threads(count)
        run()
        began = time.perf_counter()
        run()
        taken[count] = time.perf_counter() - began
    fastest = min(counts, key=lambda count: taken[count])
    set_threads(fastest)
    return fastest


def read_arrays(order: Order) -> tuple[Any, Any]:
    """The rows of an order, as stored."""
    return load(order["x"]), load(order["y"])

"""Shows a job while it runs: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from trainshed.answers import JobAnswer
from trainshed.tables import numbers, seconds


class Display(Protocol):
    """Something that can show one snapshot after another."""

    def show(self, job: JobAnswer) -> None:
        """Shows the newest snapshot."""


def follow(snapshots: Iterable[JobAnswer], console: Console) -> None:
    """Shows every snapshot; returns after the last."""
    if not console.is_terminal:
        lines = Lines(console)
        for job in snapshots:
            lines.show(job)
        return
    with _progress(console) as progress:
        bar = Bar(progress)
        for job in snapshots:
            bar.show(job)


class Bar:
    """A bar over the epochs with the newest metrics and the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=100.0, epochs="", metrics="", left="")

    def show(self, job: JobAnswer) -> None:
        """Moves the bar."""
        done, of = job["progress"]["epoch"], job["progress"]["of"]
        self._progress.update(
            self._task,
            description=job["state"],
            completed=job["progress"]["percent"],
            epochs=f"epoch {done}/{of}",
            metrics=_waits_for(job) or numbers(_shown(job)),
            left=_time_left(job),
        )


class Lines:
    """One line for each new epoch, and for each new reason to wait."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def show(self, job: JobAnswer) -> None:
        """Prints a line if it says something new."""
        line = _line(job)
        if line != self._last:
            self._last = line
            self._console.print(Text(f"{line}{_pace(job)}"), soft_wrap=True)


def _progress(console: Console) -> Progress:
    # Metrics stand on a line of their own: eighty columns do not hold them beside a bar.
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[epochs]}  {task.fields[left]}\n{task.fields[metrics]}", markup=False),
        console=console,
    )


def _line(job: JobAnswer) -> str:
    if job["state"] == "queued":
        return f"queued: {_waits_for(job)}"
    done, of = job["progress"]["epoch"], job["progress"]["of"]
    if job["state"] == "running" and done == 0:
        return "running: the first epoch"
    return f"epoch {done}/{of}  {numbers(_shown(job))}".rstrip()


def _pace(job: JobAnswer) -> str:
    left = _time_left(job) if job["state"] == "running" and job["progress"]["epoch"] else ""
    return f"  ({left})" if left else ""


def _waits_for(job: JobAnswer) -> str:
    return job["queue"]["why"] if job["queue"] else ""


def _time_left(job: JobAnswer) -> str:
    left = seconds(job["progress"]["eta_seconds"])
    return f"{left} left" if left and job["state"] == "running" else ""


def _shown(job: JobAnswer) -> dict[str, float]:
    return {name: value for name, value in (job["metrics"] or {}).items() if name != "learning_rate"}

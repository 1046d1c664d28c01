"""What processes take, from /proc."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

NAMES = {
    "trainshed.warden": "up",
    "trainshed up": "up",
    "valkey-server": "valkey",
    "maxmemory-policy": "valkey",
    "-m api": "api",
    "worker train": "train worker",
    "worker housekeeping": "housekeeping worker",
    "forkserver": "forkserver (TensorFlow)",
    "worker.": "child of housekeeping",
    "mlflow": "mlflow",
    "uvicorn": "mlflow",
}
TRAINER = "trainer"
GONE = (FileNotFoundError, ProcessLookupError)
LOOK_SECONDS = 0.5


def family(pid: int) -> dict[int, str]:
    """Process ids below one, and itself, with the names of what they are in the service."""
    parents = dict(_parents())
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    plain = {one: _name(one) for one in found}
    forkserver = NAMES["forkserver"]
    # A trainer is forked from a forkserver and keeps its command line.
    return {
        one: TRAINER if name == forkserver == plain.get(parents.get(one, 0)) else name
        for one, name in plain.items()
    }


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(*GONE):
                yield int(path.name), int(_stat(int(path.name))[1])


def _stat(pid: int) -> list[str]:
    """proc_pid_stat(5) from the third field on; the name before may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _name(pid: int) -> str:
    with suppress(*GONE):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return next((name for needle, name in NAMES.items() if needle in words), "other")
    return "other"


def pss_mb(pid: int) -> float:
    """Proportional set size in MB; a page that n processes share counts 1/n."""
    return _mb(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def peak_mb(pid: int) -> float:
    """The largest resident set so far in MB, with pages that others share."""
    return _mb(Path(f"/proc/{pid}/status"), "VmHWM:")


def _mb(path: Path, label: str) -> float:
    lines = path.read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(label)), 0.0)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, and of those of its children that have ended."""
    return sum(int(field) for field in _stat(pid)[11:15]) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds(pid: int) -> float:
    """User and system time of a process alone."""
    return sum(int(field) for field in _stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


def family_cpu_seconds(pid: int) -> dict[str, float]:
    """CPU seconds by name, of those that have ended under the name of who waited for them."""
    return _summed(pid, cpu_seconds)


def family_pss_mb(pid: int) -> dict[str, float]:
    """Proportional set sizes by name."""
    return _summed(pid, pss_mb)


def _summed(pid: int, measure: Callable[[int], float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for child, name in family(pid).items():
        with suppress(*GONE, PermissionError):
            sums[name] = sums.get(name, 0.0) + measure(child)
    return dict(sorted(sums.items()))


class Peaks:
    """The most memory of each kind of process in MB: `pss` of all of them, `hwm` of the largest one."""

    def __init__(self) -> None:
        self.pss: dict[str, float] = {}
        self.hwm: dict[str, float] = {}

    def look(self, pid: int) -> None:
        """Take in what the family of a process has now."""
        _raise_to(self.pss, family_pss_mb(pid))
        for child, name in family(pid).items():
            with suppress(*GONE):
                _raise_to(self.hwm, {name: peak_mb(child)})

    def take_in(self, other: "Peaks") -> None:
        """The larger of both."""
        _raise_to(self.pss, other.pss)
        _raise_to(self.hwm, other.hwm)


def _raise_to(peaks: dict[str, float], now: dict[str, float]) -> None:
    for name, size in now.items():
        peaks[name] = max(peaks.get(name, 0.0), size)


@contextmanager
def watched_memory(pid: int) -> Iterator[Peaks]:
    """Looks twice a second, which costs some milliseconds of CPU each time."""
    peaks, is_over = Peaks(), Event()

    def watch() -> None:
        while not is_over.wait(LOOK_SECONDS):
            peaks.look(pid)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        is_over.set()
        thread.join()

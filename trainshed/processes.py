"""Processes known by number and time of birth, so that a reused number is never mistaken for ours."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process that leads a process group of its own."""

    pid: int
    born: str  # in whatever unit the system gives; only compared for equality

    @property
    def is_alive(self) -> bool:
        """Whether it runs; one that ended but was not waited for does not."""
        return born(self.pid) == self.born


@dataclass(frozen=True, slots=True)
class Register:
    """What `<home>/pids` holds: an `up` and the processes it started."""

    owner: Process
    children: Sequence[Process]

    def write(self, path: Path) -> None:
        """Replaces the file at once: a reader finds the old or the new one."""
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        new.replace(path)


def read_register(path: Path) -> Register | None:
    """None if there is no file, or none of ours."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Register(Process(**data["owner"]), [Process(**child) for child in data["children"]])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def process(pid: int) -> Process:
    """The process that has this number now."""
    return Process(pid, born(pid) or "")


def born(pid: int) -> str | None:
    """When a process was started; None if it does not run."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():
        return _born_by_ps(pid)
    try:
        # The command's name, in brackets, may hold blanks and brackets itself.
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks_since_boot = fields[0], fields[19]
    return None if state in "ZX" else f"{_boot()}:{ticks_since_boot}"


def end(processes: Iterable[Process], *, grace: float) -> list[Process]:
    """Ends processes and their groups: asks, waits `grace` seconds at most, kills. Returns those found."""
    found = [one for one in processes if one.is_alive]
    for one in found:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGTERM)
    give_up_at = time.monotonic() + grace
    while any(one.is_alive for one in found) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    for one in found:
        kill_group(one.pid)
    return found


def kill_group(leader: int) -> None:
    """SIGKILL to a process and to everything it started in its group."""
    # PermissionError is macOS's answer where only dead processes are left in the group.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _born_by_ps(pid: int) -> str | None:
    ps = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = ps.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()

"""How much memory is free for this process, by the machine and by its container."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
LIMIT = Path("/sys/fs/cgroup/memory.max")
USED = Path("/sys/fs/cgroup/memory.current")


def free_bytes() -> int:
    """Bytes that could be taken without swapping or being killed; 0 where that is not told."""
    return min(_free_of_machine(), _free_of_container())


def _free_of_machine() -> int:
    if not MEMINFO.exists():  # not on macOS
        return 0
    facts = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024


def _free_of_container() -> int:
    limit = LIMIT.read_text().strip() if LIMIT.exists() else "max"
    return 2**63 if limit == "max" else int(limit) - int(USED.read_text())

"""What figures depend on: the machine, how busy it is, and the versions of what was measured."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The machine now; `load` is the mean number of processes that wanted to run in the last minute."""
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def said(facts: dict[str, Any]) -> str:
    """A machine in one line."""
    return (
        f"{facts['processor']}, {facts['cpus']} cores, {facts['memory_gb']} GB, load {facts['load']}, "
        f"Python {facts['python']}, {facts['system']}"
    )


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages that this interpreter has."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

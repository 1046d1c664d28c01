"""Runs a module as a program, leaves its peak memory in a file: `python -m tests.measured FILE MODULE …`."""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """The module gets the other arguments."""
    _, file, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__")
    finally:
        # The high-water mark of this program; getrusage's includes the process that started it.
        status = Path("/proc/self/status").read_text().split()
        with Path(file).open("a") as peaks:
            peaks.write(f"{status[status.index('VmHWM:') + 1]}\n")


if __name__ == "__main__":
    main()

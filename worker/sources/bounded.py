"""Programs that a source calls, each with an end to its patience."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.sources.material import SourceFailed


def run_program(command: Sequence[str], *, seconds: float, folder: Path) -> None:
    """Run a program in a folder; raises SourceFailed with its last line of complaint."""
    _run(command, Path(command[0]).name, seconds, folder)


def run_python(script: str, *arguments: str, seconds: float, folder: Path) -> None:
    """Run a script in a Python process of its own; raises SourceFailed with its traceback's last line."""
    _run([sys.executable, "-c", script, *arguments], "its process", seconds, folder)


def _run(command: Sequence[str], name: str, seconds: float, folder: Path) -> None:
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise SourceFailed(f"{name} is not installed on this machine.") from None
    except subprocess.TimeoutExpired:
        raise SourceFailed(f"{name} was not done after {seconds:.0f} s.") from None
    if ended.returncode != 0:
        complaint = _complaint(ended.stderr) or f"exit status {ended.returncode}"
        raise SourceFailed(f"{name} failed: {complaint.removesuffix('.')}.")


def _complaint(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # apt-get marks its errors, the cause first; a traceback ends with its error.
    marked = [line for line in lines if line.startswith("E: ")]
    return marked[0].removeprefix("E: ") if marked else "".join(lines[-1:])

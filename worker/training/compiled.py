"""What XLA compiled, kept in a folder for later jobs with the same program."""

import hashlib
import os
import platform
from pathlib import Path

import tensorflow as tf

MOST_PROGRAMS = 200
"""About 0.3 MB each. The ones that were written first go first."""


class CompiledPrograms:
    """A folder of compiled programs, for this version of TensorFlow on this kind of CPU.

    TensorFlow writes each whole, under another name first, but reads what it finds there without a checksum.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / f"tensorflow-{tf.__version__}-{_kind_of_cpu()}"

    def use(self) -> None:
        """From the first compilation on. It must not have happened yet in this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(self._files(), key=_age)[MOST_PROGRAMS:]:
            file.unlink(missing_ok=True)
        flags = os.environ.get("TF_XLA_FLAGS", "")
        os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_persistent_cache_directory={self.folder}".strip()

    def forget(self) -> bool:
        """Remove all of them, as one may be damaged; False if there was none."""
        files = self._files()
        for file in files:
            file.unlink(missing_ok=True)
        return bool(files)

    def _files(self) -> list[Path]:
        return list(self.folder.glob("*"))


def _age(file: Path) -> float:
    try:
        return -file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _kind_of_cpu() -> str:
    about = Path("/proc/cpuinfo")
    text = about.read_text() if about.exists() else platform.processor()
    kinds = {line for line in text.splitlines() if line.startswith(("model name", "flags", "Features"))}
    return hashlib.sha256("\n".join(sorted(kinds)).encode()).hexdigest()[:12]

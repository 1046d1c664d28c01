"""The folder that holds all state of one embedded stack."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainshed.errors import HomeInUse, HomeUnusable

SYNTAX_IN_URLS = frozenset("?#%")  # SQLite's path is part of a URL


@dataclass(frozen=True, slots=True)
class Home:
    """Names the files of a home."""

    root: Path

    @property
    def lock(self) -> Path:
        """Locked while an `up` runs; holds its process id."""
        return self.root / "lock"

    @property
    def owner(self) -> int | None:
        """The process that holds the lock, or held it last."""
        text = self.lock.read_text(encoding="utf-8").strip() if self.lock.exists() else ""
        return int(text) if text.isdecimal() else None

    @property
    def pids(self) -> Path:
        """The processes that run, for whoever has to end them if `up` cannot."""
        return self.root / "pids"

    @property
    def address(self) -> Path:
        """The server's URL while it runs."""
        return self.root / "address"

    def announce(self, url: str) -> None:
        """Writes the address at once: whoever reads it meanwhile finds none or all of it."""
        new = self.root / "address.new"
        new.write_text(f"{url}\n", encoding="utf-8")
        new.replace(self.address)

    @property
    def key(self) -> Path:
        """The first owner's API key, mode 0600."""
        return self.root / "key"

    @property
    def log(self) -> Path:
        """Everything that the processes printed."""
        return self.root / "log.txt"

    @property
    def database(self) -> Path:
        """SQLite's file."""
        return self.root / "trainshed.db"

    @property
    def artifacts(self) -> Path:
        """The artifact root."""
        return self.root / "artifacts"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def valkey(self) -> Path:
        """Valkey's append-only file and the number of its port."""
        return self.root / "valkey"

    def prepare(self) -> None:
        """Makes the folders. Raises HomeUnusable."""
        if not SYNTAX_IN_URLS.isdisjoint(str(self.root)):
            raise HomeUnusable(self.root, "its path must not contain ?, # or %")
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.artifacts, self.mlflow, self.valkey):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise HomeUnusable(self.root, error.strerror or str(error)) from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise HomeUnusable(self.root, "it cannot be written")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the home for this process. Raises HomeInUse, HomeUnusable."""
        try:
            file = self.lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise HomeUnusable(self.root, error.strerror or str(error)) from error
        with file:
            try:
                # The kernel lets go of it when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HomeInUse(self.root, self.owner) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

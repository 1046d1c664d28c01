"""One log for many processes: each line begins with the name of the one that wrote it."""

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92)  # ANSI foreground colours
LARGEST = 20_000_000  # bytes; then the file becomes log.1.txt


class Log:
    """Writes lines to a file and to the terminal (`screen`), from any thread."""

    def __init__(self, path: Path, screen: IO[str] | None = None, *, colours: bool = False) -> None:
        self.path = path
        self._screen = screen if screen is not None else sys.stdout
        self._colours = colours
        self._order: list[str] = []
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def line(self, name: str, text: str) -> None:
        """One line of one process."""
        with self._lock:
            self._to_file(name, text)
            self._to_screen(f"{self._label(name)} {text}")

    def say(self, text: str) -> None:
        """Something that the person who started the stack should read."""
        with self._lock:
            for line in text.splitlines():
                self._to_file("up", line)
            self._to_screen(text)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    def _to_file(self, name: str, text: str) -> None:
        if self._file.closed:
            return
        if self._file.tell() > LARGEST:
            self._file.close()
            self.path.replace(self.path.with_name("log.1.txt"))
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._file.write(f"{now} {name:<12} | {text}\n")

    def _to_screen(self, text: str) -> None:
        if self._screen is None:
            return
        try:
            self._screen.write(f"{text}\n")
            self._screen.flush()
        except (OSError, ValueError):
            self._screen = None  # nobody reads any more; the file goes on

    def _label(self, name: str) -> str:
        label = f"{name:<12} |"
        if not self._colours:
            return label
        if name not in self._order:
            self._order.append(name)
        return f"\x1b[{COLOURS[self._order.index(name) % len(COLOURS)]}m{label}\x1b[0m"

"""A child process: started, listened to, started again, ended with all that it started."""

import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainshed.log import Log
from trainshed.processes import Process, kill_group, process

LONGEST_DELAY = 30.0  # seconds before another start
SETTLED = 60.0  # a child that ran this many seconds is not in trouble


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a process of the stack."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    folder: Path


class Child:
    """One process, in a session of its own: Ctrl-C reaches `up` alone, SIGKILL all that it started."""

    def __init__(self, command: Command, log: Log) -> None:
        self.command = command
        self.failures = 0  # ends in a row that nobody asked for
        self._log = log
        self._popen: subprocess.Popen[bytes] | None = None
        self._process: Process | None = None
        self._started_at = 0.0
        self._start_again_at = 0.0

    @property
    def name(self) -> str:
        """What its lines in the log begin with."""
        return self.command.name

    @property
    def process(self) -> Process | None:
        """None before the first start and after the end."""
        return self._process

    def start(self) -> None:
        """Starts the process and begins to read what it prints."""
        self._popen = subprocess.Popen(
            self.command.arguments,
            env=dict(self.command.environment),
            cwd=self.command.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process(self._popen.pid)
        self._started_at = time.monotonic()
        threading.Thread(target=self._read, args=(self._popen,), name=self.name, daemon=True).start()

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return None if self._popen is None else self._popen.poll()

    def revive(self) -> bool:
        """Starts the process again once it has ended and its delay is over. True if it did."""
        code = self.exit_code()
        if code is None:
            return False
        if self._process is not None:
            self._note_end(code)
        if time.monotonic() < self._start_again_at:
            return False
        self.start()
        return True

    def ask_to_end(self) -> None:
        """SIGTERM to the process alone: it ends what it started in its own way."""
        if self._popen is not None:
            self._popen.terminate()

    def end(self, give_up_at: float) -> None:
        """Waits for the process until that monotonic time, then kills what is left of its group."""
        if self._popen is None:
            return
        try:
            self._popen.wait(max(0.0, give_up_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._log.line(self.name, "(did not end in time; killed)")
        self._kill_rest()
        self._popen.wait()

    def _note_end(self, code: int) -> None:
        self._kill_rest()
        has_settled = time.monotonic() - self._started_at > SETTLED
        self.failures = 1 if has_settled else self.failures + 1
        delay = min(2.0 ** (self.failures - 1), LONGEST_DELAY)
        self._start_again_at = time.monotonic() + delay
        self._log.say(f"{self.name} ended with exit code {code}; starting it again in {delay:g} s.")

    def _kill_rest(self) -> None:
        if self._process is not None:
            # What a dead child started would go on holding its port, its device or its job.
            kill_group(self._process.pid)
            self._process = None

    def _read(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None
        with popen.stdout as lines:
            for line in lines:
                if text := line.decode(errors="replace").rstrip():
                    self._log.line(self.name, text)

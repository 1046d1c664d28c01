"""A trainer's events on their way out: whoever tells one never waits for the pipe."""

import threading
import time
from collections.abc import Callable

from worker.events import EpochEnded, Event, Progress, StartedUp, encode_all

# Epochs that follow each other faster travel together: each message wakes the supervisor, and it writes once.
SECONDS_BETWEEN = 0.25


class Outbox:
    """Events in order, sent by a thread of its own.

    An epoch may wait a little for the ones after it. The first does not, nor one with a checkpoint: only two
    files are kept, and SQL has to know of one of them. Nor does anything that is said once.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._waiting: list[Event] = []
        self._is_urgent = False
        self._has_had_an_epoch = False
        self._is_sending = False
        self._next = 0.0
        threading.Thread(target=self._run, name="outbox", daemon=True).start()

    def put(self, event: Event) -> None:
        """Take an event; a progress that is still here is out of date."""
        with self._changed:
            if self._waiting and isinstance(self._waiting[-1], Progress):
                self._waiting.pop()
            self._waiting.append(event)
            self._is_urgent = self._is_urgent or self._cannot_wait(event)
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until everything is sent."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._is_sending))

    def _cannot_wait(self, event: Event) -> bool:
        match event:
            case Progress() | StartedUp():
                return False
            case EpochEnded():
                is_first, self._has_had_an_epoch = not self._has_had_an_epoch, True
                return is_first or event.checkpoint is not None
            case _:
                return True

    def _run(self) -> None:
        while True:
            self._send(encode_all(self._taken()))
            with self._changed:
                self._is_sending = False
                self._next = time.monotonic() + SECONDS_BETWEEN
                self._changed.notify_all()

    def _taken(self) -> list[Event]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            self._changed.wait_for(lambda: self._is_urgent, self._next - time.monotonic())
            taken, self._waiting = self._waiting, []
            self._is_urgent, self._is_sending = False, True
            return taken

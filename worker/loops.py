"""Threads that do one step again and again, woken early by the doorbell."""

import logging
import os
import signal
import threading
from collections.abc import Callable

from sqlalchemy.exc import OperationalError, TimeoutError

log = logging.getLogger(__name__)


class Loop:
    """Calls `step` every so many seconds, and at once after `wake` or after a step that answered True."""

    def __init__(self, name: str, step: Callable[[], bool], seconds: float) -> None:
        self._name = name
        self._step = step
        self._seconds = seconds
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Do a step now."""
        self._wake.set()

    def stop(self) -> None:
        """Do no further step; safe in a signal handler."""
        self._is_stopping = True
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for the step under way."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._is_stopping:
            if not self._step_once():
                self._wake.wait(self._seconds)
            if not self._is_stopping:
                self._wake.clear()

    def _step_once(self) -> bool:
        try:
            return self._step()
        except (OperationalError, TimeoutError) as error:
            log.warning("%s: the store is away: %s", self._name, error)
            return False
        except Exception:
            # A loop that ended in silence would look like one with nothing to do. The process ends, and
            # whoever started it starts it again.
            log.exception("%s failed", self._name)
            os.kill(os.getpid(), signal.SIGTERM)
            self._is_stopping = True
            return False

"""Writes that wait for a store that is away, kept in order."""

import logging
from collections.abc import Callable

from sqlalchemy.exc import OperationalError, TimeoutError
from sqlalchemy.orm import Session

from services.store import Store

Write = Callable[[Session], None]
log = logging.getLogger(__name__)


class PendingWrites:
    """A queue of writes; those that wait together are one transaction. A write may be tried twice: it must
    bear that.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Write] = []

    def add(self, write: Write) -> None:
        """Put a write behind the others."""
        self._waiting.append(write)

    @property
    def is_empty(self) -> bool:
        """Whether everything is stored."""
        return not self._waiting

    def flush(self) -> bool:
        """Store what can be stored; False if the store is away and something waits. Raises LeaseLost."""
        if not self._waiting:
            return True
        try:
            with self._store.writes.begin() as session:
                for write in self._waiting:
                    write(session)
        except (OperationalError, TimeoutError) as error:
            log.warning("the store is away, %d writes wait: %s", len(self._waiting), error)
            return False
        self._waiting.clear()
        return True

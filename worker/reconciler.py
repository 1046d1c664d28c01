"""Finds lost jobs and rings for jobs that nobody answered."""

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import OperationalError, TimeoutError
from sqlalchemy.orm import Session

from services import errands, leases
from services.errors import LeaseLost
from services.models import Evaluation, Prediction
from services.order import claimable
from services.states import Reason
from services.store import Store

log = logging.getLogger(__name__)


class Reconciler:
    """Expires leases, and rings the train queue. Only the leader's steps are run."""

    def __init__(self, store: Store, lease_seconds: float, ring: Callable[[], None]) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._ring = ring
        self._connected_at: float | None = None

    def step(self) -> bool:
        """One pass; raises what the store raises when it is away."""
        try:
            with self._store.writes.begin() as session:
                self._reconcile(session)
                should_ring = claimable(session)
        except (OperationalError, TimeoutError):
            self._connected_at = None
            raise
        if should_ring:
            self._ring()
        return False

    def _reconcile(self, session: Session) -> None:
        if self._is_settled():
            for table in (Evaluation, Prediction):
                errands.abandon(session, table)
            for lease in leases.expired(session):
                expire(session, lease)

    def _is_settled(self) -> bool:
        # While the store was away nobody could renew a lease: after its return each gets one whole lease.
        if self._connected_at is None:
            self._connected_at = time.monotonic()
        return time.monotonic() - self._connected_at >= self._lease_seconds


def expire(session: Session, lease: leases.Lease) -> None:
    """Take a job from a worker that gave no sign of life for a whole lease."""
    try:
        state = leases.end_failed(
            session, lease, Reason.LOST_WORKER, "Its worker gave no sign of life for a whole lease."
        )
    except LeaseLost:
        # It ended between the look and the write.
        return
    log.warning("job %s: lost its worker, now %s", lease.job_id, state)

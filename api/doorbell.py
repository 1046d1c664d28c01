"""Rings a worker through the broker, after the commit and never as a condition of it."""

from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from services.broker import RING_TRANSPORT, TASKS


class Doorbell:
    """A producer of its own: the workers' options would block a sender for seconds without a broker."""

    # What the broker's client raises when nobody answers in time.
    _AWAY: Final = (OperationalError, OSError)

    def __init__(self, broker_url: str) -> None:
        self._app = Celery("doorbell", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            broker_transport_options=RING_TRANSPORT,
            broker_connection_retry=False,
            broker_connection_max_retries=0,
            task_ignore_result=True,
        )

    def ring(self, queue: str) -> bool:
        """Say "look in SQL" to a queue's workers; False if the broker did not answer in a second or two."""
        try:
            self._app.send_task(TASKS[queue], queue=queue, retry=False)
        except self._AWAY:
            return False
        return True

    def answers(self) -> bool:
        """Whether the broker is there."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=1)
        except self._AWAY:
            return False
        return True

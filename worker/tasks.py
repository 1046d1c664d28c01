"""What a message does: nothing but say "look in SQL"."""

import logging
from collections.abc import Callable

from celery import Celery
from kombu.exceptions import OperationalError

from services.broker import HOUSEKEEPING_QUEUE, PREDICTION_QUEUE, TASKS, TRAIN_QUEUE

log = logging.getLogger(__name__)


def answer_train_doorbell(app: Celery, look: Callable[[], None]) -> None:
    """Ring, and a free slot looks for jobs until there are none."""
    app.task(name=TASKS[TRAIN_QUEUE])(look)


def answer_housekeeping_doorbell(app: Celery, wake: Callable[[], None]) -> None:
    """Ring, and the loops do their next step at once."""
    app.task(name=TASKS[HOUSEKEEPING_QUEUE])(wake)


def answer_prediction_doorbell(app: Celery, wake: Callable[[], None]) -> None:
    """Ring, and the loop of predictions, no other, does its next step at once."""
    app.task(name=TASKS[PREDICTION_QUEUE])(wake)


def make_ring(app: Celery, queue: str) -> Callable[[], None]:
    """A function that rings a queue's workers; for loops, where a wait of some seconds does no harm."""

    def ring() -> None:
        try:
            app.send_task(TASKS[queue], queue=queue, retry=False)
        except (OperationalError, OSError) as error:
            # The reconciler rings again as long as a job waits.
            log.warning("the broker is away: %s", error)

    return ring

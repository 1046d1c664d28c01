"""Celery's pool of threads, with the one thing that it lacks here."""

from concurrent.futures import Future
from typing import Any

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop


class Threads(TaskPool):
    """Tells Celery's event loop at once when a thread becomes free.

    While all threads are busy the loop asks the broker for no message (`worker_disable_prefetch`). It would
    see the end of a task only when it wakes by itself, up to a second later, and a job waited as long.
    """

    def on_apply(self, *args: Any, **options: Any) -> Any:
        """Run a task in a thread."""
        result = super().on_apply(*args, **options)
        result.f.add_done_callback(_wake_the_loop)
        return result


def _wake_the_loop(_: Future[Any]) -> None:
    loop = get_event_loop()
    if loop is not None:
        # Before each wait it looks whether a thread is free; there is nothing else to do.
        loop.call_soon(_do_nothing)


def _do_nothing() -> None:
    pass

"""Rings through a real Valkey to a real Celery worker."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from api.doorbell import Doorbell
from services.broker import TRAIN_QUEUE

TASK_SECONDS = 0.05
# As many threads as a train worker with one slot has.
WORKER = f"""
import os, sys, time
from worker.app import make_app, worker_arguments
from worker.tasks import answer_train_doorbell
app = make_app(sys.argv[1])
def hear():
    time.sleep({TASK_SECONDS})
    os.write(1, b"heard\\n")
answer_train_doorbell(app, hear)
app.worker_main(worker_arguments(["{TRAIN_QUEUE}"], 1))
"""
RINGS = 9


@contextmanager
def listening_worker(broker: str) -> Iterator[Iterator[bytes]]:
    """The lines that a worker writes, one for each ring that it hears."""
    command = [sys.executable, "-c", WORKER, broker]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_ring_that_follows_a_task_is_heard_at_once(valkey: str) -> None:
    doorbell = Doorbell(valkey)
    waited = []
    with listening_worker(valkey) as heard:
        assert doorbell.ring(TRAIN_QUEUE)
        next(heard)
        for _ in range(RINGS):
            began = time.monotonic()
            assert doorbell.ring(TRAIN_QUEUE)
            next(heard)
            waited.append(time.monotonic() - began)
    # Celery's loop wakes by itself once a second: without a word from the pool each of them waits for that.
    assert statistics.median(waited) < 0.25, waited

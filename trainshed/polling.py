# Made from trainshed/aio/polling.py by `make client`; change that file.
"""Waiting for what the server does later: an upload, an evaluation, a prediction."""

import time
from collections.abc import Callable
from typing import TypeVar

from trainshed.answers import Evaluation, Prediction, Upload
from trainshed.errors import StillRunning
from trainshed.waiting import sleep

PENDING = frozenset({"queued", "running", "available", "processing"})
SHORTEST, LONGEST = 0.1, 2.0  # seconds between two looks
Later = TypeVar("Later", Evaluation, Prediction, Upload)


def until_ended(answer: Later, look: Callable[[], Later], *, what: str, timeout: float) -> Later:
    """The answer once it is final. Raises StillRunning after `timeout` seconds."""
    give_up_at = time.monotonic() + timeout
    pause = SHORTEST
    while answer["state"] in PENDING:
        if time.monotonic() > give_up_at:
            raise StillRunning(f"{what} {answer['id']}", timeout)
        sleep(pause)
        pause = min(pause * 1.5, LONGEST)
        answer = look()
    return answer

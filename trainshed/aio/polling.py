"""Waiting for what the server does later: an upload, an evaluation, a prediction."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from trainshed.aio.waiting import sleep
from trainshed.answers import Evaluation, Prediction, Upload
from trainshed.errors import StillRunning

PENDING = frozenset({"queued", "running", "available", "processing"})
SHORTEST, LONGEST = 0.1, 2.0  # seconds between two looks
Later = TypeVar("Later", Evaluation, Prediction, Upload)


async def until_ended(
    answer: Later, look: Callable[[], Awaitable[Later]], *, what: str, timeout: float
) -> Later:
    """The answer once it is final. Raises StillRunning after `timeout` seconds."""
    give_up_at = time.monotonic() + timeout
    pause = SHORTEST
    while answer["state"] in PENDING:
        if time.monotonic() > give_up_at:
            raise StillRunning(f"{what} {answer['id']}", timeout)
        await sleep(pause)
        pause = min(pause * 1.5, LONGEST)
        answer = await look()
    return answer

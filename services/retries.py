"""Which ends of an attempt earn another try; the table of causes, as data and one function."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.states import Reason

# Tries that may follow an end for this cause, counted over the job's life. Causes not named earn none.
RETRIES = {
    Reason.OOM_HOST: 1,
    Reason.LOST_WORKER: 5,
    Reason.INFRASTRUCTURE: 5,
}
BACKOFF_SECONDS = 10.0
# Ends in a row without a new epoch after which a job is taken for the cause of them.
POISON_AFTER = 3


@dataclass(frozen=True)
class Ended:
    """An attempt that ended."""

    reason: Reason
    gained: int
    """Epochs that it added to the part of the history that a checkpoint covers."""


@dataclass(frozen=True)
class Again:
    """The job goes back to the queue."""

    delay_seconds: float


@dataclass(frozen=True)
class GiveUp:
    """The job fails."""

    reason: Reason


def decide(attempts: Sequence[Ended]) -> Again | GiveUp:
    """What follows the last of these attempts (oldest first, at least one)."""
    last = attempts[-1].reason
    if last is Reason.DEPLOY:
        return Again(0)
    if last not in RETRIES:
        return GiveUp(last)
    counted = [attempt for attempt in attempts if attempt.reason.counts_as_attempt]
    if _barren(counted) >= POISON_AFTER:
        return GiveUp(Reason.POISON)
    if _of_its_kind(counted, last) > RETRIES[last]:
        return GiveUp(last)
    barren = _barren(counted)
    return Again(BACKOFF_SECONDS * 2 ** (barren - 1) if barren else 0)


def _barren(attempts: Sequence[Ended]) -> int:
    """How many attempts at the end gained nothing."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.gained:
            break
        count += 1
    return count


def _of_its_kind(attempts: Sequence[Ended], reason: Reason) -> int:
    kinds = {Reason.OOM_HOST} if reason is Reason.OOM_HOST else {Reason.LOST_WORKER, Reason.INFRASTRUCTURE}
    return sum(attempt.reason in kinds for attempt in attempts)

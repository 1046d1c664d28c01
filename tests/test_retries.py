"""The table of causes: which ends of an attempt earn another try."""

import pytest

from services.retries import Again, Ended, GiveUp, decide
from services.states import Reason

LOST = Ended(Reason.LOST_WORKER, gained=0)
LOST_LATE = Ended(Reason.LOST_WORKER, gained=3)
BROKEN = Ended(Reason.INFRASTRUCTURE, gained=0)
BROKEN_LATE = Ended(Reason.INFRASTRUCTURE, gained=3)
DEPLOYED = Ended(Reason.DEPLOY, gained=0)
TOO_BIG = Ended(Reason.OOM_HOST, gained=0)
TOO_BIG_LATE = Ended(Reason.OOM_HOST, gained=1)


@pytest.mark.parametrize(
    ("attempts", "verdict"),
    [
        ([LOST], Again(10)),
        ([BROKEN], Again(10)),
        ([LOST_LATE], Again(0)),
        ([LOST, BROKEN], Again(20)),
        ([LOST, BROKEN, LOST], GiveUp(Reason.POISON)),
        ([LOST, BROKEN, LOST_LATE], Again(0)),
        ([LOST, LOST, LOST_LATE, BROKEN], Again(10)),
        ([LOST_LATE] * 5, Again(0)),
        ([LOST_LATE] * 6, GiveUp(Reason.LOST_WORKER)),
        ([LOST_LATE, BROKEN_LATE] * 3, GiveUp(Reason.INFRASTRUCTURE)),
        ([TOO_BIG], Again(10)),
        ([TOO_BIG_LATE], Again(0)),
        ([TOO_BIG, TOO_BIG], GiveUp(Reason.OOM_HOST)),
        ([TOO_BIG_LATE, TOO_BIG_LATE], GiveUp(Reason.OOM_HOST)),
        ([TOO_BIG, LOST], Again(20)),
        ([LOST_LATE] * 5 + [TOO_BIG_LATE], Again(0)),
        ([DEPLOYED], Again(0)),
        ([DEPLOYED] * 50, Again(0)),
        ([LOST, LOST, DEPLOYED], Again(0)),
        ([LOST, DEPLOYED, LOST], Again(20)),
        ([LOST, DEPLOYED, LOST, DEPLOYED, LOST], GiveUp(Reason.POISON)),
    ],
)
def test_verdicts(attempts: list[Ended], verdict: Again | GiveUp) -> None:
    assert decide(attempts) == verdict


@pytest.mark.parametrize(
    "reason",
    [Reason.DIVERGED, Reason.BAD_SPEC, Reason.BAD_DATA, Reason.TIME_LIMIT, Reason.OOM_GPU, Reason.POISON],
)
def test_what_another_try_would_not_mend_gets_none(reason: Reason) -> None:
    assert decide([LOST_LATE, Ended(reason, gained=3)]) == GiveUp(reason)

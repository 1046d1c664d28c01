"""A job's events: what happened, in order, without gaps."""

from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from services.models import Event, Job
from services.store import now_ms


def record(session: Session, job_id: str, kind: str, data: dict[str, Any]) -> None:
    """Append an event. The caller has just written the job's row and so holds its lock: `seq` has no gap."""
    seq = select(func.coalesce(func.max(Event.seq), 0) + 1).where(Event.job_id == job_id)
    fence = select(Job.fence).where(Job.id == job_id)
    session.execute(
        insert(Event).values(
            job_id=job_id,
            seq=seq.scalar_subquery(),
            kind=kind,
            data=data,
            fence=fence.scalar_subquery(),
            at=now_ms(),
        )
    )

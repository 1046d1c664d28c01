"""In which order queued jobs start: one at a time from each person, whoever has least running first.

Priority says which of a person's own jobs takes that person's place; it moves nobody else's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from services.models import Job
from services.states import JobState
from services.store import now_ms


@dataclass(frozen=True)
class Waiting:
    """A queued job, as far as its place in the queue depends on it."""

    job_id: str
    owner_id: str
    dataset_name: str
    has_data: bool
    is_due: bool
    priority: int

    @property
    def can_start(self) -> bool:
        """Whether it only waits for a slot."""
        return self.has_data and self.is_due


def queued(session: Session) -> list[Waiting]:
    """All queued jobs in the order they will start: those that can start, then the others."""
    rows = session.execute(
        select(
            Job.id,
            Job.owner_id,
            Job.dataset_name,
            Job.dataset_version.is_not(None),
            Job.run_after_at <= now_ms(),
            Job.priority,
        )
        .where(Job.state == JobState.QUEUED)
        .order_by(Job.id)
    )
    waiting = [Waiting(*row) for row in rows]
    running = Counter(session.scalars(select(Job.owner_id).where(Job.state == JobState.RUNNING)))
    return list(_in_turn(waiting, running))


def _in_turn(waiting: list[Waiting], running: Counter[str]) -> Iterator[Waiting]:
    turns = Counter(running)
    ranked = []
    for place, job in _placed(waiting):
        ranked.append((not job.can_start, turns[job.owner_id], place, job))
        turns[job.owner_id] += job.can_start
    yield from (rank[-1] for rank in sorted(ranked, key=lambda rank: rank[:-1]))


def _placed(waiting: list[Waiting]) -> Iterator[tuple[str, Waiting]]:
    """Each job with the id of the one whose place it takes, oldest place first."""
    own: defaultdict[tuple[str, bool], list[Waiting]] = defaultdict(list)
    for job in waiting:
        own[job.owner_id, job.can_start].append(job)
    wished = {key: iter(sorted(jobs, key=lambda job: -job.priority)) for key, jobs in own.items()}
    for job in waiting:
        yield job.job_id, next(wished[job.owner_id, job.can_start])


def claimable(session: Session) -> bool:
    """Whether a free slot would find a job."""
    due = and_(Job.state == JobState.QUEUED, Job.dataset_version.is_not(None), Job.run_after_at <= now_ms())
    return session.scalar(select(Job.id).where(due).limit(1)) is not None

"""One look at SQL for all who follow jobs, and one read for all who stand at the same place.

Everything here belongs to the event loop but the reads, which have threads of their own. Nothing is asked
while nobody follows.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

from api import sse
from api.sse import Summary, Told
from services import feed
from services.feed import Change, Cursor
from services.store import Store

T = TypeVar("T")
JOB_LOOK_SECONDS = 0.25
# Telling one takes 0.15 ms or more: with hundreds, whoever sends requests would wait for the telling.
LOOK_SECONDS_A_FOLLOWER = 0.004
LIST_LOOK_SECONDS = 0.5
# A change is seen when its transaction ends, which may be later than others that began after it.
OVERLAP_MS = 10_000
SUMMARIES_AT_ONCE = 200
STREAMS_IN_A_ROW = 8
REST_SECONDS = 0.002
# What the store raises while the database is away.
AWAY = (OperationalError, InterfaceError, TimeoutError)
log = logging.getLogger(__name__)


class Bell:
    """A future that many wait for; a new one hangs there as soon as it has rung."""

    def __init__(self) -> None:
        self.next: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ring(self) -> None:
        """Wake all who wait."""
        rung, self.next = self.next, asyncio.get_running_loop().create_future()
        rung.set_result(None)


class Topic:
    """One job that somebody follows."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.revision = 0
        self.is_over = False
        """The job was deleted, or the server stops."""
        self.followers = 0
        self.pages: dict[Cursor, asyncio.Task[Told]] = {}

    def turn(self, revision: int | None) -> None:
        """Take the job's newest revision; None: there is nothing more to follow."""
        if revision == self.revision:
            return
        self.is_over = self.is_over or revision is None
        self.revision = revision or self.revision
        self.pages.clear()
        self.bell.ring()


class Reader:
    """Somebody who follows the list: the newest summary of each job that changed since the last look."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.pending: dict[str, Summary] = {}
        self.is_over = False

    def add(self, summary: Summary) -> None:
        """A slow reader gets the newest only."""
        self.pending.pop(summary.job_id, None)
        self.pending[summary.job_id] = summary

    def take(self) -> str:
        """What is new, oldest change first."""
        taken, self.pending = self.pending.values(), {}
        return "".join(summary.text for summary in taken)


class Watch:
    """Looks for all streams."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="watch")
        self._topics: dict[str, Topic] = {}
        self._readers: set[Reader] = set()
        self._looks: dict[str, asyncio.Task[None]] = {}
        self.is_closed = False
        self._door = asyncio.Lock()
        self._turns = 0

    def close(self) -> None:
        """End all streams, those that are opened from now on, too."""
        self.is_closed = True
        self._end_all()

    def _end_all(self) -> None:
        for topic in self._topics.values():
            topic.turn(None)
        for reader in self._readers:
            reader.is_over = True
            reader.bell.ring()

    async def turn(self) -> None:
        """Let one stream go on at a time: between two of them the loop sees to everybody else.

        Telling 200 streams of one job takes 30 ms, for which all requests would otherwise be held up. A loop
        that is never idle keeps the interpreter lock: the threads that answer requests would get it only by
        waiting 5 ms for it, several times a request. So it rests after every few streams.
        """
        async with self._door:
            self._turns += 1
            await asyncio.sleep(0 if self._turns % STREAMS_IN_A_ROW else REST_SECONDS)

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Topic]:
        """A job's topic for as long as somebody follows it."""
        topic = self._topics.setdefault(job_id, Topic())
        topic.is_over = topic.is_over or self.is_closed
        topic.followers += 1
        self._keep_looking("jobs", self._look_at_jobs)
        try:
            yield topic
        finally:
            topic.followers -= 1
            if not topic.followers:
                del self._topics[job_id]

    @contextmanager
    def follow_list(self) -> Iterator[Reader]:
        """A reader of the list, who misses nothing from now on."""
        reader = Reader()
        reader.is_over = self.is_closed
        self._readers.add(reader)
        self._keep_looking("list", self._look_at_list)
        try:
            yield reader
        finally:
            self._readers.remove(reader)

    def page(self, topic: Topic, job_id: str, cursor: Cursor) -> asyncio.Task[Told]:
        """What came after the cursor: one read for all who ask before the job's next change."""
        task = topic.pages.get(cursor)
        if task is None or (task.done() and task.exception() is not None):
            task = topic.pages[cursor] = self.read(sse.tell, job_id, cursor)
        return task

    def read(self, look: Callable[..., T], *arguments: Any) -> "asyncio.Task[T]":
        """Run a read in a thread of its own."""

        def in_thread() -> T:
            with self._store.reads.begin() as session:
                return look(session, *arguments)

        async def run() -> T:
            return await asyncio.get_running_loop().run_in_executor(self._pool, in_thread)

        task = asyncio.get_running_loop().create_task(run())
        # Whoever asked may have left meanwhile; then nobody needs to hear of a failure.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _keep_looking(self, name: str, look: Callable[[], Any]) -> None:
        if name not in self._looks or self._looks[name].done():
            self._looks[name] = asyncio.get_running_loop().create_task(look())
            self._looks[name].add_done_callback(self._end_if_blind)

    def _end_if_blind(self, look: asyncio.Task[None]) -> None:
        if not look.cancelled() and (error := look.exception()) is not None:
            log.error("a look for the streams failed; they end", exc_info=error)
            self._end_all()

    async def _look_at_jobs(self) -> None:
        while self._topics:
            followers = sum(topic.followers for topic in self._topics.values())
            await asyncio.sleep(max(JOB_LOOK_SECONDS, followers * LOOK_SECONDS_A_FOLLOWER))
            asked = dict(self._topics)
            try:
                found = await self.read(feed.revisions, list(asked))
            except AWAY:
                # The streams stay open; SQL may be back at the next look.
                continue
            for job_id, topic in asked.items():
                topic.turn(found.get(job_id))

    async def _look_at_list(self) -> None:
        seen: dict[str, Change] = {}
        frontier: int | None = None
        while self._readers:
            try:
                frontier = await self.read(feed.clock) if frontier is None else frontier
                seen = await self._tell_changes(frontier - OVERLAP_MS, seen)
                frontier = max([frontier, *(change.at for change in seen.values())])
            except AWAY:
                pass
            await asyncio.sleep(LIST_LOOK_SECONDS)

    async def _tell_changes(self, since: int, seen: dict[str, Change]) -> dict[str, Change]:
        """Tell what changed since then and was not seen yet; returns all that was seen since then."""
        found = {change.job_id: change for change in await self.read(feed.changed, since)}
        new = [job_id for job_id, change in found.items() if seen.get(job_id) != change]
        for start in range(0, len(new), SUMMARIES_AT_ONCE):
            for summary in await self.read(sse.tell_jobs, new[start : start + SUMMARIES_AT_ONCE]):
                for reader in self._readers:
                    reader.add(summary)
        for reader in self._readers if new else ():
            reader.bell.ring()
        return found

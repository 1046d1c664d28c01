"""Server-sent events: one job's story, and all jobs' changes. The event loop tells them, no thread is held.

After an interruption a client comes back with the last id that it saw, and the stream goes on exactly there.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from api import sse
from api.bridge import LiveBody, Write
from api.sse import Told
from api.watch import AWAY, OVERLAP_MS, SUMMARIES_AT_ONCE, Watch
from services import feed
from services.errors import NotFound, TrainshedError
from services.feed import Cursor
from services.store import Store

T = TypeVar("T")
MOST_STREAMS = 1_000
HEARTBEAT_SECONDS = 15.0
PROGRESS_EVERY_SECONDS = 0.5
AGAIN_SECONDS = 1.0


class StreamsBusy(TrainshedError):
    """As many streams are open as there may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} streams are open, and there may be no more. Try again in a few seconds.")


class Streams:
    """Opens streams and counts them."""

    def __init__(
        self, store: Store, *, heartbeat_seconds: float = HEARTBEAT_SECONDS, most: int = MOST_STREAMS
    ) -> None:
        self.watch = Watch(store)
        self.heartbeat_seconds = heartbeat_seconds
        self.open = 0
        self._most = most

    def of_job(self, job_id: str, cursor: Cursor) -> LiveBody:
        """What happened to a job after the cursor, and happens from now on; raises StreamsBusy."""
        self._require_room()
        return _JobStream(self, job_id, cursor)

    def of_all(self, since: int | None) -> LiveBody:
        """Jobs that changed since then (None: since now), and change from now on; raises StreamsBusy."""
        self._require_room()
        return _ListStream(self, since)

    def close(self) -> None:
        """End all streams; clients come back to whoever answers next."""
        self.watch.close()

    def _require_room(self) -> None:
        if self.open >= self._most:
            raise StreamsBusy(self._most)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one stream while it is open."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


class _Voice:
    """Writes blocks, and a sign of life when nothing was said for a while."""

    def __init__(self, write: Write, heartbeat_seconds: float) -> None:
        self._write = write
        self._heartbeat_seconds = heartbeat_seconds
        self._said_at = time.monotonic()

    async def say(self, blocks: str) -> None:
        await self._write(blocks.encode())
        self._said_at = time.monotonic()

    async def wait(self, future: "asyncio.Future[T]") -> T:
        """The future's result. It may be shared: it is not cancelled with the waiting."""
        while not future.done():
            silent = time.monotonic() - self._said_at
            done, _ = await asyncio.wait({future}, timeout=max(0.0, self._heartbeat_seconds - silent))
            if not done:
                await self.say(sse.ALIVE)
        return future.result()

    async def pause(self, seconds: float) -> None:
        await self.wait(asyncio.ensure_future(asyncio.sleep(seconds)))


class _JobStream(LiveBody):
    def __init__(self, streams: Streams, job_id: str, cursor: Cursor) -> None:
        self._streams = streams
        self._job_id = job_id
        self._cursor = cursor
        self._progress: str | None = None
        self._progress_at = -PROGRESS_EVERY_SECONDS

    async def tell(self, write: Write) -> None:
        """Until the job is terminal and all is told, or until it is deleted."""
        voice = _Voice(write, self._streams.heartbeat_seconds)
        watch = self._streams.watch
        with self._streams.counted(), watch.follow(self._job_id) as topic:
            await voice.say(sse.RETRY)
            while not topic.is_over:
                try:
                    told = await voice.wait(watch.page(topic, self._job_id, self._cursor))
                except AWAY:
                    await voice.pause(AGAIN_SECONDS)
                    continue
                except NotFound:
                    break
                await watch.turn()
                if text := told.text + ("" if told.has_more else self._end(told)):
                    await voice.say(text)
                self._cursor = told.cursor
                if told.done is not None and not told.has_more:
                    return
                while not told.has_more and topic.revision <= told.revision and not topic.is_over:
                    await voice.wait(topic.bell.next)
            await self._say_deleted(voice)

    async def _say_deleted(self, voice: _Voice) -> None:
        watch = self._streams.watch
        while not watch.is_closed:
            try:
                last = await voice.wait(watch.read(sse.tell_deleted, self._job_id))
            except AWAY:
                await voice.pause(AGAIN_SECONDS)
                continue
            await voice.say(last)
            return

    def _end(self, told: Told) -> str:
        if told.done is not None:
            return told.done
        now = time.monotonic()
        is_due = now - self._progress_at >= PROGRESS_EVERY_SECONDS
        if told.progress is None or told.progress == self._progress or not is_due:
            return ""
        self._progress, self._progress_at = told.progress, now
        return told.progress


class _ListStream(LiveBody):
    def __init__(self, streams: Streams, since: int | None) -> None:
        self._streams = streams
        self._since = since

    async def tell(self, write: Write) -> None:
        """Until the client leaves or the server stops."""
        voice = _Voice(write, self._streams.heartbeat_seconds)
        with self._streams.counted(), self._streams.watch.follow_list() as reader:
            await voice.say(sse.RETRY)
            await self._catch_up(voice)
            while not reader.is_over:
                if not reader.pending:
                    await voice.wait(reader.bell.next)
                await self._streams.watch.turn()
                if text := reader.take():
                    await voice.say(text)

    async def _catch_up(self, voice: _Voice) -> None:
        """Each job that changed before the reader was there, in pages; some are told by both."""
        watch = self._streams.watch
        place: tuple[int, str] | None = None
        while True:
            try:
                if place is None:
                    now = await voice.wait(watch.read(feed.clock))
                    since = now if self._since is None else min(self._since, now)
                    # With this id, a client that comes back before anything changed misses nothing.
                    await voice.say(sse.mark(since))
                    place = (since - OVERLAP_MS, "")
                found = await voice.wait(watch.read(feed.changed, *place, SUMMARIES_AT_ONCE))
                ids = [change.job_id for change in found]
                summaries = await voice.wait(watch.read(sse.tell_jobs, ids)) if ids else []
            except AWAY:
                await voice.pause(AGAIN_SECONDS)
                continue
            if summaries:
                await voice.say("".join(summary.text for summary in summaries))
            if len(found) < SUMMARIES_AT_ONCE:
                return
            place = (found[-1].at, found[-1].job_id)

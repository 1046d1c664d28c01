"""The exporter: copies SQL to MLflow, one small step at a time, and waits patiently while MLflow is away."""

import os
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Final

from services import export
from services.export import Due
from services.settings import Settings
from services.store import Store

if TYPE_CHECKING:
    from worker.mlflow_copy import MlflowCopy

# By default one call to a dead server takes four minutes.
MLFLOW_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

PROBE_SECONDS: Final = 2.0
# Chapters of an ended job follow each other for so long; then live jobs have their turn.
CHAPTERS_SECONDS: Final = 0.5
SHORTEST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
PROBLEM_LENGTH: Final = 500


class Pause:
    """Doubles with each failure, from SHORTEST_PAUSE to LONGEST_PAUSE seconds."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._until = 0.0

    @property
    def is_over(self) -> bool:
        """Whether to try again."""
        return time.monotonic() >= self._until

    def begin(self) -> None:
        """Something failed."""
        self._seconds = min(max(2 * self._seconds, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._until = time.monotonic() + self._seconds


class Exporter:
    """Call `step` again and again, from one thread of the leading housekeeping worker."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._copy: MlflowCopy | None = None
        self._server_pause = Pause()
        self._job_pauses: defaultdict[str, Pause] = defaultdict(Pause)
        self._chapters: dict[str, Iterator[None]] = {}

    def step(self) -> bool:
        """Send what MLflow lacks of live jobs, then go on with the job that ended first, then remove one.

        Returns whether there was something to do. An MLflow that is away, or refuses, is a problem of the
        jobs concerned and no exception.
        """
        if not self._server_pause.is_over:
            return False
        with self._store.reads() as session:
            found = export.due(session)
        due = Due(*(self._not_pausing(jobs) for jobs in (found.live, found.ended, found.deleted)))
        if not (due.live or due.ended or due.deleted):
            return False
        if not self._server_answers():
            jobs = [*found.live, *found.ended, *found.deleted]
            self._note_problem(jobs, f"MLflow at {self._settings.mlflow_url} does not answer.")
            return False
        self._export(self._opened_copy(), due)
        return True

    def _not_pausing(self, jobs: Sequence[str]) -> list[str]:
        return [job for job in jobs if job not in self._job_pauses or self._job_pauses[job].is_over]

    def _server_answers(self) -> bool:
        """A cheap question first, so that an outage costs no time-outs."""
        health = f"{self._settings.mlflow_url.rstrip('/')}/health"
        try:
            with urllib.request.urlopen(health, timeout=PROBE_SECONDS):
                pass
        except (OSError, ValueError, HTTPException) as error:
            if not isinstance(error, urllib.error.HTTPError) or error.code >= 500:
                self._server_pause.begin()
                return False
        self._server_pause = Pause()
        return True

    def _opened_copy(self) -> "MlflowCopy":
        if self._copy is None:
            # MLflow reads its environment when it is imported, and takes 2.5 s and 100 MB that only the
            # leader needs to spend.
            for name, value in MLFLOW_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from worker.mlflow_copy import MlflowCopy

            self._copy = MlflowCopy(self._store, self._settings)
        return self._copy

    def _export(self, copy: "MlflowCopy", due: Due) -> None:
        for job in due.live:
            if not self._try(copy, job, partial(copy.follow, job)):
                # Perhaps MLflow went away just now: the next step asks before another call is lost.
                return
            self._job_pauses.pop(job, None)
        if due.ended:
            # One that was begun goes first: another that keeps failing must not make it start over.
            job = next((job for job in due.ended if job in self._chapters), due.ended[0])
            self._try(copy, job, partial(self._go_on, copy, job))
        # Exports are steps of this same thread, so none that began before the job was deleted goes on after.
        if due.deleted and self._try(copy, due.deleted[0], partial(copy.remove, due.deleted[0])):
            self._job_pauses.pop(due.deleted[0], None)

    def _go_on(self, copy: "MlflowCopy", job: str) -> None:
        chapters = self._chapters.get(job) or copy.complete(job)
        self._chapters = {job: chapters}
        until = time.monotonic() + CHAPTERS_SECONDS
        for _ in chapters:
            if time.monotonic() >= until:
                return
        self._chapters = {}
        self._job_pauses.pop(job, None)

    def _try(self, copy: "MlflowCopy", job: str, work: Callable[[], None]) -> bool:
        from worker.mlflow_copy import FAILURES

        try:
            work()
        except FAILURES as error:
            copy.forget(job)
            self._chapters.pop(job, None)
            self._job_pauses[job].begin()
            self._note_problem([job], str(error))
            return False
        return True

    def _note_problem(self, jobs: Sequence[str], problem: str) -> None:
        with self._store.writes.begin() as session:
            export.note_problem(session, jobs, problem[:PROBLEM_LENGTH])

# Made from trainshed/aio/client.py by `make client`; change that file.
"""The client: everything that the server offers, from Python."""

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, cast

from trainshed.answers import DryRun, Health, JobSummary, Queue, Worker
from trainshed.datasets import Datasets
from trainshed.documents import Spec, document
from trainshed.errors import AmbiguousJob, NoSuchJob, TooShort, Unreachable
from trainshed.exchange import Params
from trainshed.job import Job
from trainshed.settings import find
from trainshed.transport import Transport

PAGE = 100
WHOLE_ID = 32  # digits of a UUID
SHORTEST_ABBREVIATION = 4


class Client:
    """A connection to a server.

    URL and key are found by themselves: arguments, else TRAINSHED_URL and TRAINSHED_KEY, else what
    `trainshed up` wrote into its home. `timeout`: seconds that one answer may take. `patience`: seconds that
    a server which answered before may be away, as in a restart, until Unreachable is raised.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 20, patience: float = 30
    ) -> None:
        self._transport = Transport(find(url, key), timeout=timeout, patience=patience)
        self.datasets = Datasets(self._transport)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def submit(
        self,
        spec: Spec,
        *,
        overrides: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submits a spec: a mapping, a file (its Path, or its name), or a document's text (YAML or JSON).

        `overrides` change the document before it is checked, by dotted path: {"fit.epochs": 5}. A second
        submit with the same `idempotency_key` gives the first one's job. Raises NoSuchFile, Refused (with all
        problems).
        """
        return Job(self._transport, self._post_spec(spec, overrides, key=idempotency_key))

    def dry_run(self, spec: Spec, *, overrides: Mapping[str, Any] | None = None) -> DryRun:
        """Checks a spec and says what a submit would do. Raises Refused with all problems."""
        return cast(DryRun, self._post_spec(spec, overrides, params=[("dry_run", "true")]))

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises NotFound."""
        return Job(self._transport, self._transport.get(f"/v1/jobs/{job_id}"))

    def find(self, text: str) -> Job:
        """The job with this id, the newest (`last`), or the one whose id begins or ends with the text.

        An abbreviation has four digits or more. Raises NoSuchJob, TooShort, AmbiguousJob, NotFound.
        """
        if text == "last":
            newest = next(self.jobs(limit=1), None)
            if newest is None:
                raise NoSuchJob(text)
            return newest
        if len(text.replace("-", "")) >= WHOLE_ID:
            return self.job(text)
        if len(text) < SHORTEST_ABBREVIATION:
            raise TooShort(text)
        return self._by_part(text)

    def jobs(
        self,
        *,
        state: str | None = None,
        owner: str | None = None,
        dataset: str | None = None,
        label: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, fetched page by page as they are read; `limit` ends the listing.

        `label` is written `key:value`.
        """
        chosen = {"state": state, "owner": owner, "dataset": dataset, "label": label}
        params = [(name, value) for name, value in chosen.items() if value is not None]
        left = limit
        after: str | None = None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            here = [("limit", str(size))] + ([("after", after)] if after else [])
            page = self._transport.get("/v1/jobs", params=[*params, *here])
            for data in page["data"]:
                yield Job(self._transport, data)
            left = None if left is None else left - len(page["data"])
            after = page["next_after"]
            if not page["has_more"]:
                return

    def changes(self, *, on_away: Callable[[], None] | None = None) -> Generator[JobSummary]:
        """Each job that changes, everybody's, without end; one may be told twice: keep the newest by its id.

        Deleted jobs are passed over. Taken up where it was after a lost connection, as a job's stream() is.
        """
        with closing(self._transport.messages("/v1/events", on_away=on_away)) as messages:
            for message in messages:
                if message.event == "job":
                    yield json.loads(message.data)

    def queue(self) -> Queue:
        """Running jobs, then queued ones in the order in which they will start."""
        return cast(Queue, self._transport.get("/v1/queue"))

    def workers(self) -> list[Worker]:
        """The worker processes seen lately."""
        return cast(list[Worker], (self._transport.get("/v1/workers"))["data"])

    def ready(self) -> Health:
        """Whether a job could start now, part by part. Raises Unreachable, and nothing else."""
        response = self._transport.once("/readyz")
        try:
            return cast(Health, response.json())
        except ValueError:
            return {"status": "unavailable", "checks": {"api": f"answered {response.status_code}"}}

    def missing(self) -> str | None:
        """What keeps a job from starting, in words; None if nothing does."""
        try:
            health = self.ready()
        except Unreachable:
            return "the API"
        if health["status"] == "ok":
            return None
        return "; ".join(f"{name}: {what}" for name, what in health["checks"].items() if what != "ok")

    def _post_spec(
        self,
        spec: Spec,
        overrides: Mapping[str, Any] | None,
        *,
        params: Params = (),
        key: str | None = None,
    ) -> Any:
        content, media_type = document(spec)
        changes = [("set", f"{path}={json.dumps(value)}") for path, value in (overrides or {}).items()]
        return self._transport.post(
            "/v1/jobs",
            {"content": content},
            params=[*params, *changes],
            headers={"Content-Type": media_type},
            key=key,
        )

    def _by_part(self, text: str) -> Job:
        part = text.lower()
        fitting = [job for job in self.jobs() if job.id.startswith(part) or job.id.endswith(part)]
        if not fitting:
            raise NoSuchJob(text)
        if len(fitting) > 1:
            raise AmbiguousJob(text, [job.id for job in fitting])
        return fitting[0]

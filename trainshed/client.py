"""The client: everything the server offers, from Python."""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from trainshed.answers import Dataset, DryRun, Health, Look, Queue, Worker
from trainshed.errors import AmbiguousJob, NoSuchFile, NoSuchJob, TooShort, Unreachable
from trainshed.job import Job
from trainshed.settings import find
from trainshed.transport import Params, Transport

Spec = Mapping[str, Any] | str | Path
PAGE = 100
WHOLE_ID = 32  # digits of a UUID
SHORTEST_ABBREVIATION = 4
SPEC_SUFFIXES = (".yaml", ".yml", ".json")


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
        key = idempotency_key or str(uuid.uuid4())
        return Job(self._transport, self._post_spec(spec, overrides, headers={"Idempotency-Key": key}))

    def dry_run(self, spec: Spec, *, overrides: Mapping[str, Any] | None = None) -> DryRun:
        """Checks a spec and says what a submit would do. Raises Refused with all problems."""
        return cast(DryRun, self._post_spec(spec, overrides, params=[("dry_run", "true")]))

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises NotFound."""
        return Job(self._transport, self._transport.json("GET", f"/v1/jobs/{job_id}"))

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
            page = self._transport.json("GET", "/v1/jobs", params=[*params, *here])
            yield from (Job(self._transport, data) for data in page["data"])
            left = None if left is None else left - len(page["data"])
            after = page["next_after"]
            if not page["has_more"]:
                return

    def datasets(self) -> list[Dataset]:
        """All datasets, by name."""
        return cast(list[Dataset], self._transport.json("GET", "/v1/datasets")["data"])

    def dataset(self, name: str) -> Dataset:
        """One dataset. Raises NotFound."""
        return cast(Dataset, self._transport.json("GET", f"/v1/datasets/{name}"))

    def ledger(self, name: str) -> list[Look]:
        """All looks at a dataset's test split, oldest first."""
        return cast(list[Look], self._transport.json("GET", f"/v1/datasets/{name}/ledger")["data"])

    def queue(self) -> Queue:
        """Running jobs, then queued ones in the order in which they will start."""
        return cast(Queue, self._transport.json("GET", "/v1/queue"))

    def workers(self) -> list[Worker]:
        """The worker processes seen lately."""
        return cast(list[Worker], self._transport.json("GET", "/v1/workers")["data"])

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
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        content, media_type = _document(spec)
        changes = [("set", f"{path}={json.dumps(value)}") for path, value in (overrides or {}).items()]
        return self._transport.json(
            "POST",
            "/v1/jobs",
            params=[*params, *changes],
            content=content,
            headers={"Content-Type": media_type, **(headers or {})},
            repeatable=True,
        )

    def _by_part(self, text: str) -> Job:
        part = text.lower()
        fitting = [job for job in self.jobs() if job.id.startswith(part) or job.id.endswith(part)]
        if not fitting:
            raise NoSuchJob(text)
        if len(fitting) > 1:
            raise AmbiguousJob(text, [job.id for job in fitting])
        return fitting[0]


def _document(spec: Spec) -> tuple[bytes, str]:
    if isinstance(spec, Path) or (isinstance(spec, str) and _names_a_file(spec)):
        return _file(Path(spec))
    if isinstance(spec, str):
        kind = "json" if spec.lstrip().startswith("{") else "yaml"
        return spec.encode(), f"application/{kind}"
    return json.dumps(spec).encode(), "application/json"


def _file(path: Path) -> tuple[bytes, str]:
    if not path.is_file():
        raise NoSuchFile(path)
    return path.read_bytes(), f"application/{'json' if path.suffix == '.json' else 'yaml'}"


def _names_a_file(text: str) -> bool:
    # os.path.isfile takes a text of any length; Path.is_file raises if it is too long for a name.
    return "\n" not in text and (text.endswith(SPEC_SUFFIXES) or os.path.isfile(text))  # noqa: PTH113

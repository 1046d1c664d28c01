"""A job of the server, held by its id."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from trainshed.answers import (
    ENDED,
    Attempt,
    Evaluation,
    History,
    JobAnswer,
    JobState,
    Progress,
    Split,
    Summary,
)
from trainshed.errors import StillRunning
from trainshed.transport import Transport

HOLD = 30  # seconds that the server may hold an answer until the job changes
PICTURES = frozenset({".png", ".svg"})


class Job:
    """A job; `data` is what the server last said of it. Properties read `data` and ask nobody."""

    def __init__(self, transport: Transport, data: JobAnswer) -> None:
        self._transport = transport
        self._path = f"/v1/jobs/{data['id']}"
        self.data = data

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state} {self.progress['epoch']}/{self.progress['of']}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.data["id"]

    @property
    def name(self) -> str:
        """The name from the spec."""
        return self.data["name"]

    @property
    def state(self) -> JobState:
        """queued, running, succeeded, failed or cancelled."""
        return self.data["state"]

    @property
    def reason(self) -> str | None:
        """Why the job is in its state."""
        return self.data["reason"]

    @property
    def has_ended(self) -> bool:
        """Whether the job can never change again."""
        return self.state in ENDED

    @property
    def progress(self) -> Progress:
        """How far the training has come."""
        return self.data["progress"]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last finished epoch; empty before the first."""
        return self.data["metrics"] or {}

    def refresh(self) -> "Job":
        """Asks the server again."""
        self.data = self._transport.json("GET", self._path)
        return self

    def watch(
        self, *, min_interval: float = 0.2, on_away: Callable[[], None] | None = None
    ) -> Iterator[JobAnswer]:
        """What the server says of the job: now, at each change, at the end; `min_interval` in seconds.

        `on_away` is called again and again while the server is away and is waited for.
        """
        etag: str | None = None
        while True:
            asked_at = time.monotonic()
            etag, is_news = self._next(etag, on_away=on_away)
            if is_news:
                yield self.data
                if self.has_ended:
                    return
            # A server that does not hold the answer back must not be asked in a tight loop.
            pause = min_interval if is_news else 1.0
            time.sleep(max(0.0, asked_at + pause - time.monotonic()))

    def wait(self, timeout: float | None = None) -> "Job":
        """Returns when the job has ended, however it ended. Raises StillRunning after `timeout` seconds."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        etag: str | None = None
        while True:
            left = HOLD if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            asked_at = time.monotonic()
            etag, _ = self._next(etag, hold=min(HOLD, int(left) + 1))
            if self.has_ended:
                return self
            if give_up_at is not None and time.monotonic() >= give_up_at:
                raise StillRunning(self.id, timeout or 0.0)
            time.sleep(max(0.0, asked_at + 0.2 - time.monotonic()))

    def history(self, *, from_epoch: int = 0) -> History:
        """Keras's History up to now."""
        params = [("from_epoch", str(from_epoch))] if from_epoch else []
        return cast(History, self._transport.json("GET", f"{self._path}/history", params=params))

    def history_csv(self) -> str:
        """The history as CSV, one row an epoch."""
        return self._transport.text(f"{self._path}/history", params=[("format", "csv")], accept="text/csv")

    def evaluate(
        self, split: Split = "validation", *, reason: str | None = None, timeout: float = 600
    ) -> Evaluation:
        """Metrics on a split, once they are there.

        A look at the test split needs a reason and stays in the ledger.
        """
        asked = self.ask_evaluation(split, reason=reason)
        give_up_at = time.monotonic() + timeout
        while asked["state"] in {"queued", "running"}:
            if time.monotonic() > give_up_at:
                raise StillRunning(asked["id"], timeout)
            time.sleep(0.3)
            asked = self.evaluation(asked["id"])
        return asked

    def ask_evaluation(self, split: Split, *, reason: str | None = None) -> Evaluation:
        """Asks for an evaluation and does not wait for it."""
        # Not repeated once the server may have seen it: each would be a look in the ledger.
        body = {"split": split} | ({"reason": reason} if reason else {})
        return cast(Evaluation, self._transport.json("POST", f"{self._path}/evaluations", body=body))

    def evaluation(self, evaluation_id: str) -> Evaluation:
        """One evaluation of this job."""
        return cast(Evaluation, self._transport.json("GET", f"{self._path}/evaluations/{evaluation_id}"))

    def evaluations(self) -> list[Evaluation]:
        """All evaluations, oldest first."""
        return cast(list[Evaluation], self._transport.json("GET", f"{self._path}/evaluations")["data"])

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first."""
        return cast(list[Attempt], self._transport.json("GET", f"{self._path}/attempts")["data"])

    def cancel(self) -> "Job":
        """Asks the server to end the job. Raises Conflict if it ended otherwise before."""
        self.data = self._transport.json("POST", f"{self._path}/cancel", repeatable=True)
        return self

    def delete(self) -> None:
        """Deletes the job and its files. Raises Conflict while it has not ended."""
        self._transport.send("DELETE", self._path)

    def spec(self) -> dict[str, Any]:
        """The resolved spec, every default written out."""
        return cast(dict[str, Any], self._transport.json("GET", f"{self._path}/spec"))

    def spec_yaml(self) -> str:
        """The resolved spec as YAML."""
        return self._transport.text(
            f"{self._path}/spec", params=[("format", "yaml")], accept="application/yaml"
        )

    def summary(self) -> Summary:
        """Layers, shapes and parameter counts."""
        return cast(Summary, self._transport.json("GET", f"{self._path}/summary"))

    def logs(self) -> str:
        """What the trainer wrote to its output."""
        return self._transport.text(f"{self._path}/logs")

    def download_model(self, path: str | Path) -> Path:
        """Writes the trained model: a `.keras` file that plain Keras loads."""
        return self._transport.download(f"{self._path}/model", Path(path))

    def learning_curves(self, path: str | Path) -> Path:
        """Writes the learning curves as a picture; the name ends in .png or .svg."""
        target = Path(path)
        if target.suffix not in PICTURES:
            raise ValueError(f"The picture's name must end in .png or .svg, not {target.name!r}.")
        return self._transport.download(f"{self._path}/learning-curves{target.suffix}", target)

    def _next(
        self, etag: str | None, hold: int = HOLD, on_away: Callable[[], None] | None = None
    ) -> tuple[str | None, bool]:
        headers = {} if etag is None else {"If-None-Match": etag, "Prefer": f"wait={hold}"}
        response = self._transport.send("GET", self._path, headers=headers, hold=hold, on_away=on_away)
        if response.status_code == 304:
            return etag, False
        self.data = response.json()
        return response.headers.get("etag"), True

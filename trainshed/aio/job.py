"""A job of the server, held by its id."""

import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import Any, Literal, cast

from trainshed.aio.polling import until_ended
from trainshed.aio.transport import AsyncTransport
from trainshed.aio.waiting import sleep, to_thread
from trainshed.answers import (
    ENDED,
    Attempt,
    Evaluation,
    History,
    JobAnswer,
    JobEvent,
    JobState,
    Predicted,
    Prediction,
    Progress,
    Split,
    StreamEvent,
    Summary,
)
from trainshed.asking import picture, prediction_body
from trainshed.errors import DataRejected, PredictionFailed, RowsDoubtful, StillRunning
from trainshed.installed import history_table, keras_loader
from trainshed.sse import stream_event

HOLD = 30  # seconds that the server may hold an answer until the job changes


class AsyncJob:
    """A job; `data` is what the server last said of it. Properties read `data` and ask nobody."""

    def __init__(self, transport: AsyncTransport, data: JobAnswer) -> None:
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

    async def refresh(self) -> "AsyncJob":
        """Asks the server again."""
        self.data = await self._transport.get(self._path)
        return self

    async def watch(
        self, *, min_interval: float = 0.2, on_away: Callable[[], None] | None = None
    ) -> AsyncIterator[JobAnswer]:
        """What the server says of the job: now, at each change, at the end; `min_interval` in seconds.

        `on_away` is called again and again while the server is away and is waited for.
        """
        etag: str | None = None
        while True:
            asked_at = time.monotonic()
            etag, is_news = await self._next(etag, on_away=on_away)
            if is_news:
                yield self.data
                if self.has_ended:
                    return
            # A server that does not hold the answer back must not be asked in a tight loop.
            pause = min_interval if is_news else 1.0
            await sleep(max(0.0, asked_at + pause - time.monotonic()))

    async def stream(self, *, on_away: Callable[[], None] | None = None) -> AsyncGenerator[StreamEvent]:
        """Everything that happens to the job, from its beginning to `done` or `deleted`, as it happens.

        A stream that breaks off is taken up where it was, over restarts of the server, too. `on_away` as in
        watch(). Raises Unreachable when the server stays away.
        """
        path = f"{self._path}/events"
        async with aclosing(self._transport.messages(path, on_away=on_away)) as messages:
            async for message in messages:
                event = stream_event(message)
                if event is None:
                    continue
                if event["event"] == "done":
                    await self.refresh()
                yield event
                if event["event"] in ("done", "deleted"):
                    return

    async def events(self) -> AsyncIterator[JobEvent]:
        """What has happened to the job until now, oldest first, fetched page by page."""
        after = 0
        while True:
            page = await self._transport.get(f"{self._path}/events", params=[("after", str(after))])
            for event in page["data"]:
                yield event
            if not page["has_more"]:
                return
            after = page["next_after"]

    async def wait(self, timeout: float | None = None) -> "AsyncJob":
        """Returns when the job has ended, however it ended. Raises StillRunning after `timeout` seconds."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        etag: str | None = None
        while True:
            left = HOLD if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            asked_at = time.monotonic()
            etag, _ = await self._next(etag, hold=min(HOLD, int(left) + 1))
            if self.has_ended:
                return self
            if give_up_at is not None and time.monotonic() >= give_up_at:
                raise StillRunning(f"Job {self.id}", timeout or 0.0)
            await sleep(max(0.0, asked_at + 0.2 - time.monotonic()))

    async def history(self, *, from_epoch: int = 0) -> Any:
        """Keras's History up to now: a pandas DataFrame with the index `epoch` (0-based).

        Where pandas is not installed, what history_json() gives.
        """
        return await to_thread(history_table, await self.history_json(from_epoch=from_epoch))

    async def history_json(self, *, from_epoch: int = 0) -> History:
        """Keras's History up to now as a mapping."""
        params = [("from_epoch", str(from_epoch))] if from_epoch else []
        return cast(History, await self._transport.get(f"{self._path}/history", params=params))

    async def history_csv(self) -> str:
        """The history as CSV, one row an epoch."""
        return await self._transport.text(
            f"{self._path}/history", params=[("format", "csv")], accept="text/csv"
        )

    async def evaluate(
        self, split: Split = "validation", *, reason: str | None = None, timeout: float = 600
    ) -> Evaluation:
        """Metrics on a split, once they are there. Raises StillRunning after `timeout` seconds.

        A look at the test split needs a reason and stays in the ledger.
        """
        asked = await self.ask_evaluation(split, reason=reason)
        return await until_ended(
            asked, lambda: self.evaluation(asked["id"]), what="Evaluation", timeout=timeout
        )

    async def ask_evaluation(self, split: Split, *, reason: str | None = None) -> Evaluation:
        """Asks for an evaluation and does not wait for it."""
        body = {"split": split} | ({"reason": reason} if reason else {})
        return cast(Evaluation, await self._transport.post(f"{self._path}/evaluations", {"json": body}))

    async def evaluation(self, evaluation_id: str) -> Evaluation:
        """One evaluation of this job."""
        return cast(Evaluation, await self._transport.get(f"{self._path}/evaluations/{evaluation_id}"))

    async def evaluations(self) -> list[Evaluation]:
        """All evaluations, oldest first."""
        return cast(list[Evaluation], (await self._transport.get(f"{self._path}/evaluations"))["data"])

    async def predict(
        self,
        data: object = None,
        *,
        split: Split | None = None,
        rows: list[int] | None = None,
        reason: str | None = None,
        top_k: int | None = None,
        thresholds: float | Mapping[str, float] | None = None,
        timeout: float = 600,
    ) -> list[Predicted]:
        """What the model says of rows, in their order, once it has.

        `data`: rows as mappings by column name or as lists in the order of the features; a pandas DataFrame,
        a NumPy array, or a file's path. Without it `split` (and `rows` of it, from 0); a look at the test
        split needs a `reason` and stays in the ledger. `top_k`: the most probable classes. `thresholds`: for
        all labels, or by label. Raises DataRejected or Refused (with every problem of the rows),
        PredictionFailed, StillRunning after `timeout` seconds. Warns (RowsDoubtful) of rows where the model
        can only guess.
        """
        asked = await self.ask_prediction(
            data, split=split, rows=rows, reason=reason, top_k=top_k, thresholds=thresholds
        )
        done = await until_ended(
            asked, lambda: self.prediction(asked["id"]), what="Prediction", timeout=timeout
        )
        if done["problems"]:
            raise DataRejected("What was sent to be predicted", done)
        if done["predictions"] is None:
            raise PredictionFailed(done)
        for noticed in done["warnings"]:
            warnings.warn(RowsDoubtful(noticed), stacklevel=2)
        return done["predictions"]

    async def ask_prediction(
        self,
        data: object = None,
        *,
        split: Split | None = None,
        rows: list[int] | None = None,
        reason: str | None = None,
        top_k: int | None = None,
        thresholds: float | Mapping[str, float] | None = None,
    ) -> Prediction:
        """Asks as predict() does and waits ten seconds at most: the answer may be there, or still queued."""
        options = {"split": split, "rows": rows, "reason": reason, "top_k": top_k, "thresholds": thresholds}
        body, file = await to_thread(prediction_body, data, options)
        with file:
            return cast(Prediction, await self._transport.post(f"{self._path}/predictions", body, hold=HOLD))

    async def prediction(self, prediction_id: str) -> Prediction:
        """One prediction of this job."""
        return cast(Prediction, await self._transport.get(f"{self._path}/predictions/{prediction_id}"))

    async def predictions(self) -> list[Prediction]:
        """All predictions, newest first, without their rows."""
        found: list[Prediction] = []
        after: str | None = None
        while True:
            params = [("after", after)] if after else []
            page = await self._transport.get(f"{self._path}/predictions", params=params)
            found += page["data"]
            after = page["next_after"]
            if not page["has_more"]:
                return found

    async def attempts(self) -> list[Attempt]:
        """All attempts, oldest first."""
        return cast(list[Attempt], (await self._transport.get(f"{self._path}/attempts"))["data"])

    async def cancel(self) -> "AsyncJob":
        """Asks the server to end the job. Raises Conflict if it ended otherwise before."""
        self.data = await self._transport.post(f"{self._path}/cancel")
        return self

    async def continue_(
        self, epochs: int, *, early_stopping: Literal["reset", "remove"] | None = None
    ) -> "AsyncJob":
        """A new job that trains this one's model for so many more epochs; its history begins with this one's.

        A job that early stopping ended asks what is to become of it. Raises Conflict, Refused.
        """
        return await self._child("continue", {"epochs": epochs, "early_stopping": early_stopping})

    async def retry(self) -> "AsyncJob":
        """A new job that does again what this one could not end. Raises Conflict."""
        return await self._child("retry", {})

    async def clone(self, changes: Mapping[str, Any] | None = None) -> "AsyncJob":
        """A new job with this one's spec, changed by dotted path: {"fit.epochs": 5}. Raises Refused."""
        return await self._child("clone", {"set": dict(changes or {})})

    async def update(
        self,
        *,
        labels: Mapping[str, str | None] | None = None,
        note: str | EllipsisType | None = ...,
        priority: int | None = None,
    ) -> "AsyncJob":
        """Changes what people may change: the labels given (None takes one away), the note, the priority.

        `priority`: -100 to 100; which of your own queued jobs starts first. Raises Refused.
        """
        patch: dict[str, Any] = {} if labels is None else {"labels": dict(labels)}
        patch |= {} if note is ... else {"note": note}
        patch |= {} if priority is None else {"priority": priority}
        response = await self._transport.send("PATCH", self._path, body={"json": patch}, repeatable=True)
        self.data = response.json()
        return self

    async def delete(self, *, artifacts: bool = True, mlflow: bool = False) -> None:
        """Deletes the job, its files (`artifacts`) and, if asked, its MLflow run.

        Raises Conflict while it has not ended.
        """
        params = [("artifacts", str(artifacts).lower()), ("mlflow", str(mlflow).lower())]
        await self._transport.send("DELETE", self._path, params=params)

    async def spec(self) -> dict[str, Any]:
        """The resolved spec, every default written out."""
        return cast(dict[str, Any], await self._transport.get(f"{self._path}/spec"))

    async def spec_yaml(self) -> str:
        """The resolved spec as YAML."""
        return await self._transport.text(
            f"{self._path}/spec", params=[("format", "yaml")], accept="application/yaml"
        )

    async def summary(self) -> Summary:
        """Layers, shapes and parameter counts."""
        return cast(Summary, await self._transport.get(f"{self._path}/summary"))

    async def logs(self, *, attempt: int | None = None) -> str:
        """What the trainer wrote to its output in the newest attempt, or in the one named (from 1)."""
        params = [] if attempt is None else [("attempt", str(attempt))]
        return await self._transport.text(f"{self._path}/logs", params=params)

    async def model(self) -> Any:
        """The trained model as a keras.Model that takes raw inputs. Raises KerasMissing."""
        # Keras first: a download for nothing could be a large one.
        load = await to_thread(keras_loader)
        with TemporaryDirectory() as folder:
            return await to_thread(load, await self.download_model(Path(folder) / "model.keras"))

    async def download_model(self, path: str | Path) -> Path:
        """Writes the trained model: a `.keras` file that plain Keras loads."""
        return await self._transport.download(f"{self._path}/model", Path(path))

    async def learning_curves(self, path: str | Path) -> Path:
        """Writes the learning curves as a picture; the name ends in .png or .svg."""
        target = picture(path)
        return await self._transport.download(f"{self._path}/learning-curves{target.suffix}", target)

    async def confusion_matrix(self, path: str | Path, *, split: Split = "validation") -> Path:
        """Writes the confusion matrix of the newest evaluation on a split, as a .png or .svg.

        Raises Conflict where there is none, and for a regression.
        """
        return await self._of_split("confusion-matrix", picture(path), split)

    async def predicted_vs_true(self, path: str | Path, *, split: Split = "validation") -> Path:
        """Writes predictions over true values of the newest evaluation on a split, as a .png or .svg.

        Raises Conflict where there is none, and for classes.
        """
        return await self._of_split("predicted-vs-true", picture(path), split)

    async def _of_split(self, kind: str, target: Path, split: Split) -> Path:
        return await self._transport.download(
            f"{self._path}/{kind}{target.suffix}", target, params=[("split", split)]
        )

    async def _child(self, verb: str, body: Mapping[str, Any]) -> "AsyncJob":
        return AsyncJob(self._transport, await self._transport.post(f"{self._path}/{verb}", {"json": body}))

    async def _next(
        self, etag: str | None, hold: int = HOLD, on_away: Callable[[], None] | None = None
    ) -> tuple[str | None, bool]:
        headers = {} if etag is None else {"If-None-Match": etag, "Prefer": f"wait={hold}"}
        response = await self._transport.send("GET", self._path, headers=headers, hold=hold, on_away=on_away)
        if response.status_code == 304:
            return etag, False
        self.data = response.json()
        return response.headers.get("etag"), True

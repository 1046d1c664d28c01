"""Predictions that people ask for: processes that keep a model loaded, and the loop that asks them."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from services import artifacts, errands, predictions, workers
from services.answers import DataProblem
from services.errands import ErrandLease
from services.errors import LeaseLost
from services.predictions import PredictionClaim
from services.schema import DatasetSchema
from services.settings import Settings
from services.spec import TrainSpec
from services.states import Reason
from services.store import Store
from worker import events
from worker.evaluate import DEVICE, dataset_of, model_of, scaling_of
from worker.memory import free_bytes
from worker.rows_child import prepare_rows
from worker.trainers import Trainer, Trainers

LOOK_SECONDS = 0.5
# A loaded model takes 100 to 300 MB beside what it shares with the forkserver.
MOST_MODELS = 3
KEPT_SECONDS = 300.0
# For one answer, the loading of its model included.
PATIENCE_SECONDS = 300.0
# A forkserver with TensorFlow takes 400 MB; it is started ahead only where that leaves room for training.
WARM_FROM_BYTES = 3_000_000_000
SETTLED_SECONDS = 3600.0
log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The worker was told to stop while a prediction was under way."""


@dataclass
class LoadedModel:
    """A process with a job's model."""

    job_id: str
    trainer: Trainer
    used_at: float
    requests: int = 0


class LoadedModels:
    """The models that are kept loaded: the last used ones, for some minutes."""

    def __init__(self, settings: Settings, trainers: Trainers) -> None:
        self._root = settings.artifact_root
        self._trainers = trainers
        self._loaded: dict[str, LoadedModel] = {}

    def of(self, claim: PredictionClaim) -> LoadedModel:
        """The job's model: the process that has it, or a new one."""
        found = self._loaded.get(claim.job_id)
        if found is not None and found.trainer.has_ended:
            self.drop(found)
            found = None
        if found is None:
            found = self._load(claim)
        found.used_at = time.monotonic()
        return found

    def _load(self, claim: PredictionClaim) -> LoadedModel:
        while len(self._loaded) >= MOST_MODELS:
            self.drop(min(self._loaded.values(), key=lambda model: model.used_at))
        log_path = artifacts.job_folder(self._root, claim.job_id) / "log-prediction.txt"
        trainer = self._trainers.open(_order(self._root, claim), log_path)
        self._loaded[claim.job_id] = LoadedModel(claim.job_id, trainer, time.monotonic())
        return self._loaded[claim.job_id]

    def drop(self, model: LoadedModel) -> str:
        """End its process unless it has ended; returns how it did, for people."""
        end = model.trainer.end
        self._loaded.pop(model.job_id, None)
        model.trainer.close()
        return end

    def drop_unused(self) -> None:
        """End processes that nobody asked for KEPT_SECONDS, or whose job is deleted; forget dead ones."""
        now = time.monotonic()
        for model in list(self._loaded.values()):
            has_files = artifacts.job_folder(self._root, model.job_id).exists()
            if now - model.used_at > KEPT_SECONDS or model.trainer.has_ended or not has_files:
                self.drop(model)

    def drop_all(self) -> None:
        """End all processes."""
        for model in list(self._loaded.values()):
            self.drop(model)


def _order(root: Path, claim: PredictionClaim) -> events.PredictOrder:
    return events.PredictOrder(
        job=claim.job_id,
        spec=claim.spec,
        dataset=dataset_of(root, claim),
        model=model_of(root, claim),
        target_scaling=scaling_of(claim.target_scaling),
        device=DEVICE,
    )


class Predictor:
    """Answers predictions one after the other. Its own loop: nothing else keeps a person waiting."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        trainers: Trainers,
        worker: str,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._worker = worker
        self._is_stopping = is_stopping
        self._trainers = trainers
        self._models = LoadedModels(settings, trainers)
        self._is_warm = False

    def step(self) -> bool:
        """Claim the oldest prediction and make it; False if there was none."""
        claim = self._claim()
        if claim is None:
            self._models.drop_unused()
            self._warm_up()
            return False
        try:
            self._make(claim)
        except LeaseLost as error:
            log.warning("%s The prediction was dropped.", error)
        except Interrupted:
            with self._store.writes.begin() as session:
                errands.interrupt(session, claim.lease)
        return True

    def _claim(self) -> PredictionClaim | None:
        # A look first: a transaction that writes would make others wait for nothing.
        with self._store.reads.begin() as session:
            if not predictions.is_waiting(session):
                return None
        with self._store.writes.begin() as session:
            return predictions.claim(session, self._worker, self._settings.lease_seconds)

    def _warm_up(self) -> None:
        """Start the forkserver ahead of the first request, once: that is some 10 s of its wait.

        Only where memory is plenty, and after the train workers, whose start it would delay.
        """
        if self._is_warm or free_bytes() < WARM_FROM_BYTES:
            return
        with self._store.reads.begin() as session:
            if not workers.can_train(session):
                return
        self._is_warm = self._trainers.warm_up()

    def close(self) -> None:
        """End all processes."""
        self._models.drop_all()

    def _make(self, claim: PredictionClaim) -> None:
        sent = artifacts.prediction_file(self._settings.artifact_root, claim.lease.id)
        inputs = sent.with_name(f"{sent.name}.npy")
        try:
            self._answer(claim, sent, inputs)
        finally:
            if "file" in claim.options:
                inputs.unlink(missing_ok=True)
                with self._store.reads.begin() as session:
                    if predictions.is_done(session, claim.lease.id):
                        sent.unlink(missing_ok=True)

    def _answer(self, claim: PredictionClaim, sent: Path, inputs: Path) -> None:
        if "file" in claim.options and (problems := self._prepare(claim, sent, inputs)):
            with self._store.writes.begin() as session:
                predictions.reject(session, claim.lease, problems)
            return
        model = self._models.of(claim)
        # A number of its own: what the process may still say to an earlier request is passed over.
        model.requests += 1
        verdict = self._ask(claim, model.trainer, _request(claim, model.requests, inputs))
        end = None if isinstance(verdict, events.Predicted) else self._models.drop(model)
        if isinstance(verdict, events.Predicted) and verdict.rows is not None:
            result = predictions.result_of(verdict.rows, verdict.warnings)
            with self._store.writes.begin() as session:
                predictions.succeed(session, claim.lease, result)
            return
        with self._store.writes.begin() as session:
            _conclude(session, claim.lease, verdict, end)

    def _prepare(self, claim: PredictionClaim, sent: Path, inputs: Path) -> list[DataProblem]:
        """Read the file that came, in a limited child process."""
        schema = DatasetSchema.model_validate(claim.dataset_schema)
        most = predictions.most_rows(TrainSpec.model_validate(claim.spec), schema, claim.options.get("top_k"))
        beats = Beats(self._store, self._settings, claim)

        def stop() -> bool:
            beats.keep()
            return self._is_stopping()

        problems = prepare_rows(sent, claim.options["file"], schema, inputs, most_rows=most, stop=stop)
        if self._is_stopping():
            raise Interrupted
        return problems

    def _ask(
        self, claim: PredictionClaim, trainer: Trainer, request: events.PredictRequest
    ) -> events.Event | None:
        """The answer of the process, or its last word; None if it died; Failed if it takes too long."""
        trainer.request(request)
        beats = Beats(self._store, self._settings, claim)
        until = time.monotonic() + PATIENCE_SECONDS
        while not trainer.is_gone:
            for event in trainer.events(LOOK_SECONDS):
                match event:
                    case events.Predicted(number=request.number) | events.Failed() | events.Stopped():
                        return event
            if self._is_stopping():
                raise Interrupted
            if time.monotonic() >= until:
                message = f"There was no answer after {PATIENCE_SECONDS:.0f} s; ask for fewer rows at once."
                return events.Failed(Reason.TIME_LIMIT, message)
            beats.keep()
        return None


def _conclude(session: Session, lease: ErrandLease, verdict: events.Event | None, end: str | None) -> None:
    match verdict:
        case events.Predicted(problems=[*found]):
            predictions.reject(session, lease, [DataProblem.model_validate(one) for one in found])
        case events.Predicted(why=why) | events.Failed(message=why):
            errands.fail(session, lease, why or "It cannot be predicted.")
        case _:
            errands.give_back(session, lease, f"Its process ended without a word ({end}).")


def sweep(store: Store, root: Path) -> bool:
    """Remove files whose prediction is done, went with its job, or was never asked for. Always False."""
    folder = artifacts.prediction_file(root, "").parent
    for path in folder.glob("prediction-*") if folder.exists() else ():
        id_ = path.name.removeprefix("prediction-").partition(".")[0]
        # A file comes before its row.
        if _is_settled(path):
            with store.reads.begin() as session:
                is_done = predictions.is_done(session, id_)
            if is_done:
                path.unlink(missing_ok=True)
    return False


def _is_settled(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > SETTLED_SECONDS
    except FileNotFoundError:
        # Its prediction was done, or refused, just now.
        return False


class Beats:
    """Signs of life while a prediction is under way."""

    def __init__(self, store: Store, settings: Settings, claim: PredictionClaim) -> None:
        self._store = store
        self._settings = settings
        self._claim = claim
        self._at = time.monotonic()

    def keep(self) -> None:
        """Give one if it is time. Raises LeaseLost."""
        if time.monotonic() - self._at >= self._settings.heartbeat_seconds:
            self._at = time.monotonic()
            with self._store.writes.begin() as session:
                errands.beat(session, self._claim.lease, self._settings.lease_seconds)


def _request(claim: PredictionClaim, number: int, inputs: Path) -> events.PredictRequest:
    options = {key: value for key, value in claim.options.items() if key != "file"}
    file = str(inputs) if "file" in claim.options else None
    return events.PredictRequest(number=number, inputs=file, split=claim.split, **options)

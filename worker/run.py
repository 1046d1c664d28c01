"""One job on one slot, from claim to verdict. SQL is written here, never by the trainer."""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError, TimeoutError

from services import artifacts, evaluations, leases
from services.best import Monitor
from services.errors import LeaseLost
from services.leases import Claim, Lease
from services.settings import Settings
from services.states import Reason, Split
from services.store import Store
from worker import events
from worker.devices import Slot
from worker.pending import PendingWrites
from worker.trainers import Trainer, Trainers

LOOK_SECONDS = 0.5
# How often the wish to cancel is looked for.
WISH_SECONDS = 1.0
# How long a worker that was told to stop waits for a store that is away.
LAST_WRITES_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Station:
    """What every slot of a train worker works with."""

    settings: Settings
    store: Store
    trainers: Trainers
    worker: str
    is_stopping: Callable[[], bool]


def run_next(station: Station, slot: Slot) -> bool:
    """Claim the job whose turn it is, train it, store the verdict; False if there was none."""
    began = time.time()
    with station.store.writes.begin() as session:
        claim = leases.claim(session, station.worker, slot.label, station.settings.lease_seconds)
    if claim is None:
        return False
    log.info("job %s: attempt %d on %s", claim.lease.job_id, claim.lease.attempt, slot.label)
    try:
        order = _order(station, claim, slot)
        with station.trainers.start(order, _log_path(station, claim)) as trainer:
            _Supervision(station, claim, trainer, Start(began, order.sent_at or began)).run()
    except LeaseLost as error:
        log.warning("%s The trainer was ended.", error)
    except Exception as error:
        log.exception("job %s: its supervisor failed", claim.lease.job_id)
        _give_back(station, claim.lease, f"Its supervisor failed: {type(error).__name__}: {error}")
    return True


def _give_back(station: Station, lease: Lease, detail: str) -> None:
    try:
        with station.store.writes.begin() as session:
            leases.end_failed(session, lease, Reason.INFRASTRUCTURE, detail)
    except (LeaseLost, OperationalError, TimeoutError):
        # The lease runs out by itself, and the reconciler decides.
        return


def _log_path(station: Station, claim: Claim) -> Path:
    return artifacts.log_file(station.settings.artifact_root, claim.lease.job_id, claim.lease.attempt)


def _order(station: Station, claim: Claim, slot: Slot) -> events.TrainOrder:
    root = station.settings.artifact_root
    folder = artifacts.job_folder(root, claim.lease.job_id)
    return events.TrainOrder(
        job=claim.lease.job_id,
        fence=claim.lease.fence,
        spec=claim.spec,
        dataset=events.DatasetPlace(
            name=claim.dataset_name,
            version=claim.dataset_version,
            path=str(artifacts.dataset_folder(root, claim.dataset_version)),
            schema=claim.dataset_schema,
        ),
        job_dir=str(folder),
        checkpoints=[
            events.CheckpointFile(path=str(folder / file.path), epoch=file.epoch - 1, sha256=file.sha256)
            for file in claim.checkpoints
        ],
        best=None if claim.best is None else events.BestEpoch(**claim.best),
        is_continued=claim.is_continued,
        compiled=str(artifacts.compiled_programs(root)),
        sent_at=time.time(),
        device=slot.device,
    )


@dataclass(frozen=True)
class Start:
    """An attempt's first moments, in seconds since 1970 by this machine's clock."""

    claiming_at: float
    sent_at: float

    def told(self, seconds: dict[str, float], now: float) -> dict[str, float]:
        """The trainer's seconds, between what came before them and what came after."""
        claim = self.sent_at - self.claiming_at
        # A clock may be set back.
        deliver = max(0.0, now - self.sent_at - sum(seconds.values()))
        return {"claim": claim, **seconds, "deliver": deliver}


class _Supervision:
    """Listens to one trainer until the verdict is stored."""

    def __init__(self, station: Station, claim: Claim, trainer: Trainer, start: Start) -> None:
        self._start = start
        self._station = station
        self._settings = station.settings
        self._claim = claim
        self._lease: Lease = claim.lease
        self._trainer = trainer
        self._writes = PendingWrites(station.store)
        self._monitor = Monitor.of(claim.spec)
        self._best = claim.best
        self._fraction = 0.0
        self._startup: dict[str, float] | None = None
        self._verdict: events.Event | None = None
        self._is_unwanted = False
        self._beat_at = time.monotonic()
        self._wish_at = time.monotonic()
        self._kill_at: float | None = None

    def run(self) -> None:
        """Listen, write, keep the lease, obey wishes; then store the verdict. Raises LeaseLost."""
        while self._verdict is None and not self._trainer.is_gone:
            self._note(self._trainer.events(LOOK_SECONDS))
            self._writes.flush()
            self._keep_lease()
            self._look_for_wishes()
        self._writes.add(self._conclusion())
        give_up_at = None
        while not self._writes.flush():
            if self._station.is_stopping() and give_up_at is None:
                give_up_at = time.monotonic() + LAST_WRITES_SECONDS
            if give_up_at is not None and time.monotonic() > give_up_at:
                # The lease runs out, and the job goes on from its last checkpoint.
                return
            time.sleep(LOOK_SECONDS)

    def _note(self, said: list[events.Event]) -> None:
        """Turn what the trainer said into writes; epochs that came together are one transaction."""
        ended: list[events.EpochEnded] = []
        for event in said:
            match event:
                case events.EpochEnded():
                    ended.append(event)
                case events.Finished() | events.Stopped() | events.Failed():
                    self._verdict = event
                case _:
                    self._note_on_the_way(event)
        if ended:
            self._note_epochs(ended)

    def _note_on_the_way(self, event: events.Event) -> None:
        match event:
            case events.Progress():
                self._fraction = event.fraction
            case events.Ready():
                self._add(leases.note_environment, _environment(event))
            case events.EngineChosen():
                self._add(leases.engine_chosen, event.engine, event.why)
            case events.StartedUp():
                self._startup = event.seconds
            case events.Resumed():
                self._add(leases.resumed, event.epoch)
            case events.CheckpointSkipped():
                self._add(leases.checkpoint_skipped, event.path, event.why)

    def _write_startup(self, seconds: dict[str, float], session: Any) -> None:
        leases.started_up(session, self._lease, self._start.told(seconds, time.time()))

    def _note_epochs(self, ended: list[events.EpochEnded]) -> None:
        for epoch in ended:
            self._best = self._monitor.better(self._best, epoch.epoch, epoch.metrics)
        self._fraction = 0.0
        self._beat_at = time.monotonic()
        results = [_result(epoch) for epoch in ended]
        self._add(leases.write_epochs, results, self._settings.lease_seconds, self._best)
        if self._startup is not None:
            # After the epoch, as it tells when that was written.
            self._writes.add(functools.partial(self._write_startup, self._startup))
            self._startup = None

    def _add(self, write: Callable[..., None], *arguments: Any) -> None:
        self._writes.add(lambda session: write(session, self._lease, *arguments))

    def _keep_lease(self) -> None:
        due = time.monotonic() - self._beat_at >= self._settings.heartbeat_seconds
        if due and self._writes.is_empty:
            self._beat_at = time.monotonic()
            self._add(leases.beat, self._settings.lease_seconds, self._fraction)
            self._writes.flush()

    def _look_for_wishes(self) -> None:
        if self._kill_at is not None:
            if time.monotonic() >= self._kill_at:
                self._trainer.kill()
            return
        if self._station.is_stopping() or self._cancel_is_wished():
            self._kill_at = time.monotonic() + self._settings.cancel_grace_seconds
            self._trainer.ask_to_stop()

    def _cancel_is_wished(self) -> bool:
        if time.monotonic() - self._wish_at < WISH_SECONDS:
            return False
        self._wish_at = time.monotonic()
        try:
            with self._station.store.reads.begin() as session:
                self._is_unwanted = leases.is_unwanted(session, self._lease)
        except (OperationalError, TimeoutError):
            # The store is away; the wish is still there when it is back.
            return False
        return self._is_unwanted

    def _conclusion(self) -> Callable[..., None]:
        match self._verdict:
            case events.Finished() as finished:
                return functools.partial(_store_success, claim=self._claim, finished=finished)
            case events.Stopped():
                return self._stopped
            case events.Failed() as failed:
                return functools.partial(_store_failure, self._lease, failed.reason, failed.message)
            case _:
                return self._lost

    def _stopped(self, session: Any) -> None:
        if self._is_unwanted:
            leases.end_cancelled(session, self._lease)
        else:
            _store_failure(
                self._lease, Reason.DEPLOY, "The worker was told to stop; the job goes on elsewhere.", session
            )

    def _lost(self, session: Any) -> None:
        if self._kill_at is not None:
            # It was killed because it did not stop in time.
            self._stopped(session)
            return
        message = f"The trainer process ended without a word ({self._trainer.end})."
        _store_failure(self._lease, Reason.INFRASTRUCTURE, message, session)


def _store_failure(lease: Lease, reason: Reason, detail: str, session: Any) -> None:
    state = leases.end_failed(session, lease, reason, detail)
    log.info("job %s: %s (%s) %s", lease.job_id, state, reason, detail)


def _store_success(session: Any, *, claim: Claim, finished: events.Finished) -> None:
    assert finished.model is not None
    assert finished.reason is not None
    best = None if finished.best is None else vars(finished.best).copy()
    leases.succeed(
        session,
        claim.lease,
        reason=finished.reason,
        detail=_how_it_ended(finished),
        best=best,
        model_sha256=finished.model.sha256,
        timings=finished.timings,
        engine=finished.engine,
        target_scaling=None if finished.target_scaling is None else vars(finished.target_scaling),
    )
    results = [
        leases.EvaluationResult(Split(one.split), finite(one.metrics), one.rows, one.outcome)
        for one in finished.evaluations
    ]
    for result, id_ in zip(
        results, leases.store_evaluations(session, claim.lease, claim.owner_id, results), strict=True
    ):
        if result.split is Split.TEST:
            evaluations.look(session, id_, "asked for in the spec")
    log.info("job %s: succeeded (%s)", claim.lease.job_id, finished.reason)


def _how_it_ended(finished: events.Finished) -> str:
    if finished.reason is Reason.STOPPED_EARLY:
        return f"Early stopping ended it after {finished.epochs} epochs{_restored(finished.restored_epoch)}."
    return (
        "Its one epoch was trained."
        if finished.epochs == 1
        else f"All {finished.epochs} epochs were trained."
    )


def _restored(epoch: int | None) -> str:
    # People count epochs from 1.
    return "" if epoch is None else f"; weights of epoch {epoch + 1} restored"


def _environment(ready: events.Ready) -> dict[str, Any]:
    if not ready.tensorflow_preloaded:
        log.error("a trainer had to import TensorFlow itself: the forkserver's preload failed")
    return {key: value for key, value in vars(ready).items() if key != "tensorflow_preloaded"}


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics as they are stored: what is not finite is null, as JSON has no word for it."""
    return {name: value if abs(value) < float("inf") else None for name, value in metrics.items()}


def _result(epoch: events.EpochEnded) -> leases.EpochResult:
    saved = epoch.checkpoint
    return leases.EpochResult(
        epoch=epoch.epoch,
        metrics=finite(epoch.metrics),
        learning_rate=epoch.learning_rate,
        seconds=epoch.seconds,
        examples=epoch.examples,
        checkpoint=None
        if saved is None
        # The trainer names the last epoch, the store counts the epochs done.
        else leases.CheckpointFile(
            saved.epoch + 1, f"checkpoints/{Path(saved.path).name}", saved.bytes, saved.sha256
        ),
    )

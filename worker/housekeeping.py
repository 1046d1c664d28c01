"""The housekeeping worker: loops for evaluations, predictions, datasets, lost jobs and MLflow."""

from celery import Celery

from services import datasets, errands, leaders, workers
from services.broker import HOUSEKEEPING_QUEUE, PREDICTION_QUEUE, TRAIN_QUEUE
from services.models import Evaluation, Prediction
from services.settings import Settings
from services.store import Store
from services.workers import Introduction
from worker.evaluate import Desk, evaluate_next
from worker.exporter import Exporter
from worker.loops import Loop
from worker.predict import Predictor, sweep
from worker.reading import read_next, read_next_upload, remove_deleted, remove_leftovers
from worker.reconciler import Reconciler
from worker.tasks import answer_housekeeping_doorbell, answer_prediction_doorbell, make_ring
from worker.trainers import Trainers

SEEN_SECONDS = 5.0
# Work that no doorbell announced is found within this time.
LOOK_SECONDS = 3.0
ANSWER_SECONDS = 1.0
EXPORT_SECONDS = 1.0
LEADER_SECONDS = 30.0
CLEAN_SECONDS = 3600.0
STOP_SECONDS = 5.0


class HousekeepingWorker:
    """One process's loops. Several may run; the reconciler and the exporter work in the leader only."""

    queues = (HOUSEKEEPING_QUEUE, PREDICTION_QUEUE)
    # A ring takes no time.
    concurrency = 1

    def __init__(self, settings: Settings, store: Store, name: str) -> None:
        self._settings = settings
        self._store = store
        self._name = name
        self._leads = False
        self._has_bundled = False
        self._is_stopping = False
        self._loops: list[Loop] = []
        # One starts all processes: multiprocessing keeps its list of children without a lock.
        self._trainers = Trainers(settings.start_method)
        self._predictor = Predictor(settings, store, self._trainers, name, lambda: self._is_stopping)
        self._predicting = Loop("predictions", self._predictor.step, ANSWER_SECONDS)

    def start(self, app: Celery) -> None:
        """Say who is there, start the loops, answer the doorbell."""
        with self._store.writes.begin() as session:
            workers.introduce(session, Introduction(self._name, workers.HOUSEKEEPING, 0, "cpu"))
            for table in (Evaluation, Prediction):
                errands.release_all(session, table, self._name)
        self._loops = self._make_loops(app)
        answer_housekeeping_doorbell(app, self._wake)
        answer_prediction_doorbell(app, self._predicting.wake)
        for loop in (*self._loops, self._predicting):
            loop.start()

    def _make_loops(self, app: Celery) -> list[Loop]:
        settings, store = self._settings, self._store
        ring = make_ring(app, TRAIN_QUEUE)
        desk = Desk(settings, store, self._trainers, self._name)
        exporter = Exporter(store, settings)
        reconciler = Reconciler(store, settings.lease_seconds, ring)
        return [
            Loop("sign of life", self._say_seen, SEEN_SECONDS),
            Loop("datasets", lambda: read_next(store, settings.artifact_root, ring), LOOK_SECONDS),
            Loop("uploads", lambda: read_next_upload(store, settings.artifact_root), LOOK_SECONDS),
            Loop("leftovers", lambda: remove_leftovers(store, settings.artifact_root), CLEAN_SECONDS),
            Loop("deleted datasets", lambda: remove_deleted(store, settings.artifact_root), CLEAN_SECONDS),
            Loop("prediction files", lambda: sweep(store, settings.artifact_root), CLEAN_SECONDS),
            Loop("evaluations", lambda: evaluate_next(desk), LOOK_SECONDS),
            Loop("reconciler", lambda: self._leads and reconciler.step(), settings.reconcile_seconds),
            Loop("exporter", lambda: self._leads and exporter.step(), EXPORT_SECONDS),
        ]

    def _say_seen(self) -> bool:
        with self._store.writes.begin() as session:
            workers.seen(session, self._name, ready=True)
            self._leads = leaders.lead(session, "housekeeping", self._name, LEADER_SECONDS)
            # Later than that, reading them would only delay the start of the whole service.
            if not self._has_bundled and workers.can_train(session):
                datasets.want_bundled(session)
                self._has_bundled = True
        return False

    def _wake(self) -> None:
        for loop in self._loops:
            loop.wake()

    def stop(self) -> None:
        """Begin no further step; only sets flags, as it runs in a signal handler."""
        self._is_stopping = True
        for loop in (*self._loops, self._predicting):
            loop.stop()

    def leave(self) -> None:
        """Wait for the steps under way, then say goodbye and let others lead."""
        for loop in (*self._loops, self._predicting):
            loop.join(STOP_SECONDS)
        self._predictor.close()
        with self._store.writes.begin() as session:
            workers.leave(session, self._name)
            leaders.resign(session, self._name)

"""The train worker: slots that supervise trainers, and the thread that says it is there."""

import logging
import queue
import threading

from celery import Celery

from services import leases, workers
from services.broker import TRAIN_QUEUE
from services.order import claimable
from services.settings import Settings
from services.store import Store
from services.workers import Introduction
from worker.devices import Slot, find_gpus, make_slots
from worker.loops import Loop
from worker.run import Station, run_next
from worker.tasks import answer_train_doorbell
from worker.trainers import Trainers

SEEN_SECONDS = 5.0
# When a forkserver could not import TensorFlow, the next one is tried after this time.
WARM_UP_SECONDS = 30.0
# Trainers get ten seconds to stop, and their verdicts ten more to be stored.
LEAVE_SECONDS = 25.0
log = logging.getLogger(__name__)


class TrainWorker:
    """One process's slots."""

    queues = (TRAIN_QUEUE,)

    def __init__(self, settings: Settings, store: Store, name: str) -> None:
        self._slots = make_slots(find_gpus(), settings.slots, settings.device_data_mb)
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._store = store
        self._name = name
        self._is_stopping = False
        self._is_warm = False
        self._trainers = Trainers(settings.start_method)
        self._station = Station(settings, store, self._trainers, name, lambda: self._is_stopping)
        self._sign = Loop("sign of life", self._say_seen, SEEN_SECONDS)
        self._warming = Loop("warm-up", self._warm_up, WARM_UP_SECONDS)

    @property
    def concurrency(self) -> int:
        """Threads that Celery needs: one a slot."""
        return len(self._slots)

    def start(self, app: Celery) -> None:
        """Say who is there, warm the forkserver up in the background, answer the doorbell."""
        answer_train_doorbell(app, self._look)
        labels = sorted({slot.label for slot in self._slots})
        introduction = Introduction(self._name, workers.TRAIN, len(self._slots), ", ".join(labels))
        with self._store.writes.begin() as session:
            workers.introduce(session, introduction)
            leases.release_all(session, self._name)
        self._sign.start()
        self._warming.start()

    def stop(self) -> None:
        """Claim nothing more, ask trainers to stop; only sets flags, as it runs in a signal handler."""
        self._is_stopping = True
        self._warming.stop()

    def leave(self) -> None:
        """Wait for the slots, then say goodbye."""
        for _ in self._slots:
            self._free.get(timeout=LEAVE_SECONDS)
        self._sign.stop()
        self._sign.join(SEEN_SECONDS)
        with self._store.writes.begin() as session:
            workers.leave(session, self._name)

    def _warm_up(self) -> bool:
        if self._is_warm:
            return False
        self._is_warm = self._trainers.warm_up()
        if not self._is_warm:
            log.error("TensorFlow could not be imported in the forkserver; jobs cannot start on this worker")
            return False
        self._sign.wake()
        for number in range(len(self._slots)):
            threading.Thread(target=self._look, name=f"first look {number}", daemon=True).start()
        return False

    def _say_seen(self) -> bool:
        with self._store.writes.begin() as session:
            workers.seen(session, self._name, ready=self._is_warm)
        return False

    def _look(self) -> None:
        """Run jobs on a free slot until no queued job can start. The other slots' threads do the same."""
        if not self._is_warm:
            # The warm-up looks when it is done.
            return
        while (slot := self._take_slot()) is not None:
            try:
                while not self._is_stopping and run_next(self._station, slot):
                    pass
            finally:
                self._free.put(slot)
            # A doorbell that rang while no slot was free found nobody: look once more after giving it back.
            if self._is_stopping or not self._has_work():
                return

    def _take_slot(self) -> Slot | None:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return None

    def _has_work(self) -> bool:
        with self._store.reads.begin() as session:
            return claimable(session)

"""30 epochs and 30 more equal 60, bit for bit: in SQL, through the supervisor, by real trainer processes."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from services import jobs, lineage, results
from services.artifacts import job_folder, model_file
from services.datasets import Known
from services.lineage import StoppingChange
from services.models import Base, Checkpoint, Dataset, DatasetVersion, Event, Job
from services.schema import DatasetSchema
from services.settings import Settings
from services.spec import TrainSpec
from services.states import DatasetState, JobState, Reason
from services.store import now_ms, open_store
from tests.builders import make_owner
from tests.test_training import DROPOUT_LAYERS, LAYERS, make_images, make_spec
from worker.devices import Slot
from worker.events import Device
from worker.run import Station, run_next
from worker.trainers import Trainers


class Bench:
    """One slot of a train worker, and a person with jobs for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = open_store(f"sqlite:///{root}/trainshed.db")
        Base.metadata.create_all(self.store.engine)
        images = make_images(root)
        self.known = Known("images", DatasetSchema.model_validate(images["schema"]), images["version"])
        with self.store.writes.begin() as session:
            self.owner = make_owner(session).id
            _add_dataset(session, self.known)
        settings = Settings(
            database_url="unused", broker_url="unused", artifact_root=root, mlflow_url="http://127.0.0.1:9"
        )
        self._station = Station(settings, self.store, Trainers("forkserver"), "train@here", lambda: False)
        self._slot = Slot(0, Device(threads=2), "cpu")

    def trained(self, **changes: Any) -> str:
        """A job from scratch, after its only slot has had its way with it."""
        spec = TrainSpec.model_validate(make_spec(**changes))
        with self.store.writes.begin() as session:
            job_id = jobs.submit(session, self.owner, spec, self.known, None).job_id
        return self.run(job_id)

    def continued(self, parent: str, epochs: int, change: StoppingChange | None = None) -> str:
        return self.run(self.to_continue(parent, epochs, change))

    def to_continue(self, parent: str, epochs: int, change: StoppingChange | None = None) -> str:
        with self.store.reads() as session:
            child = lineage.continue_(session, self.root, parent, epochs, change)
        return self._submitted(child)

    def retried(self, parent: str) -> str:
        with self.store.reads() as session:
            child = lineage.retry(session, self.root, parent)
        return self.run(self._submitted(child))

    def _submitted(self, child: lineage.Child) -> str:
        lineage.hand_down(self.root, child)
        with self.store.writes.begin() as session:
            return lineage.submit(session, self.owner, child, None).job_id

    def attempted(self, job_id: str) -> str:
        assert run_next(self._station, self._slot)
        return job_id

    def run(self, job_id: str) -> str:
        self.attempted(job_id)
        assert self.job(job_id).state is JobState.SUCCEEDED, self.job(job_id).detail
        return job_id

    def job(self, job_id: str) -> Job:
        with self.store.reads() as session:
            return session.get_one(Job, job_id)

    def history(self, job_id: str) -> list[str]:
        """The epochs as JSON; floats in the shortest form that reads back to the same bits."""
        with self.store.reads() as session:
            rows = results.epochs(session, job_id)
        return [json.dumps([row.epoch, row.metrics, row.learning_rate, row.examples]) for row in rows]

    def arrays(self, job_id: str) -> dict[str, bytes]:
        """Weights and optimizer's state after the last epoch, and the weights of the finished model."""
        with self.store.reads() as session:
            newest = results.newest_checkpoint(session, job_id)
        assert newest is not None
        with np.load(job_folder(self.root, job_id) / newest.path, allow_pickle=False) as stored:
            raw = {name: stored[name].tobytes() for name in stored.files if name != "about"}
        return raw | _model_weights(model_file(self.root, job_id))

    def events(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        with self.store.reads() as session:
            found = select(Event.data).where(Event.job_id == job_id, Event.kind == kind)
            return list(session.scalars(found.order_by(Event.seq)))

    def assert_equal(self, job_id: str, other: str) -> None:
        assert self.history(job_id) == self.history(other)
        assert self.arrays(job_id) == self.arrays(other)
        with self.store.reads() as session:
            first, second = (results.evaluations(session, id_) for id_ in (job_id, other))
        assert {e.split: e.metrics for e in first} == {e.split: e.metrics for e in second}
        assert (self.job(job_id).best, self.job(job_id).engine) == (
            self.job(other).best,
            self.job(other).engine,
        )


def _add_dataset(session: Session, known: Known) -> None:
    schema = known.schema.model_dump(mode="json")
    session.execute(
        insert(DatasetVersion).values(
            sha256=known.version, name=known.name, schema=schema, created_at=now_ms()
        )
    )
    session.execute(
        insert(Dataset).values(
            name=known.name,
            state=DatasetState.READY,
            description="Pictures.",
            version=known.version,
            updated_at=now_ms(),
        )
    )


def _model_weights(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "dtype") else None
        )
    assert found
    return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"))
    yield made
    made.store.engine.dispose()


MOMENTUM = {"type": "SGD", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True}
# Engine, epochs of the parent, what differs from the usual spec.
SPECS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "momentum and class weights, xla": (
        "xla",
        4,
        {"compile__optimizer": MOMENTUM, "fit__batch_size": 4, "fit__class_weight": {"a": 2.0}},
    ),
    "dropout and Adam": (
        "graph",
        30,
        {"model__layers": DROPOUT_LAYERS, "compile__optimizer": {"type": "Adam", "learning_rate": 0.01}},
    ),
    "early stopping that does not fire": (
        "graph",
        4,
        {
            "fit__early_stopping": {"monitor": "val_accuracy", "patience": 50, "restore_best_weights": True},
            "compile__optimizer": {"type": "Adam", "amsgrad": True},
        },
    ),
    "averaged weights": (
        "graph",
        4,
        {"compile__optimizer": {"type": "AdamW", "use_ema": True, "ema_overwrite_frequency": 7}},
    ),
    "batch normalization": (
        "graph",
        4,
        {
            "model__layers": ["Flatten", "BatchNormalization", *LAYERS[1:]],
            "compile__optimizer": {"type": "RMSprop", "momentum": 0.5},
        },
    ),
}


@pytest.mark.parametrize("kind", SPECS)
def test_so_many_epochs_and_as_many_more_equal_twice_as_many(bench: Bench, kind: str) -> None:
    engine, half, changes = SPECS[kind]
    parent = bench.trained(fit__epochs=half, **changes)
    both = bench.continued(parent, half)
    straight = bench.trained(fit__epochs=2 * half, **changes)
    assert len(bench.history(both)) == 2 * half
    assert bench.job(both).engine == engine
    assert bench.job(both).epochs_inherited == half
    assert bench.job(both).spec == bench.job(straight).spec
    bench.assert_equal(both, straight)


PATIENT = {"monitor": "accuracy", "mode": "min", "patience": 3, "restore_best_weights": True}


def test_after_early_stopping_was_removed_or_reset_training_goes_on_as_if_it_had_not_been(
    bench: Bench,
) -> None:
    stopped = bench.trained(fit__epochs=60, fit__early_stopping=PATIENT)
    done = bench.job(stopped).epochs_done
    assert (bench.job(stopped).reason, done < 20) == (Reason.STOPPED_EARLY, True)
    straight = bench.trained(fit__epochs=done + 3)

    removed = bench.continued(stopped, 3, StoppingChange.REMOVE)
    bench.assert_equal(removed, straight)
    assert bench.job(removed).reason is Reason.FINISHED

    reset = bench.continued(stopped, 3, StoppingChange.RESET)
    assert bench.history(reset) == bench.history(straight)
    # The first epoch after the reset is the best of those that are watched; without a reset, one before it.
    assert bench.job(reset).reason is Reason.FINISHED
    rule = {**PATIENT, "start_from_epoch": done}
    bench.assert_equal(reset, bench.trained(fit__epochs=done + 3, fit__early_stopping=rule))


def test_early_stopping_that_fired_before_a_failure_is_told_from_the_checkpoint(bench: Bench) -> None:
    stopped = bench.trained(fit__epochs=60, fit__early_stopping=PATIENT)
    # As if it had failed in the evaluation after the last epoch.
    with bench.store.writes.begin() as session:
        failed = {"state": JobState.FAILED, "reason": Reason.OOM_HOST}
        session.execute(update(Job).where(Job.id == stopped).values(**failed))
    child = bench.job(bench.attempted(bench.to_continue(stopped, 3)))
    assert (child.state, child.reason) == (JobState.FAILED, Reason.BAD_SPEC)
    assert "`reset` or `remove`" in (child.detail or "")
    # A retry has only the evaluation left to do.
    retried = bench.job(bench.retried(stopped))
    assert (retried.reason, retried.epochs_done) == (Reason.STOPPED_EARLY, bench.job(stopped).epochs_done)


def test_a_child_with_a_damaged_checkpoint_trains_the_inherited_epochs_again(bench: Bench) -> None:
    half = bench.trained(fit__epochs=3)
    child = bench.to_continue(half, 3)
    with bench.store.reads() as session:
        path = session.scalar(select(Checkpoint.path).where(Checkpoint.job_id == child))
    file = job_folder(bench.root, child) / str(path)
    file.unlink()
    file.write_bytes(b"damaged")
    bench.run(child)
    assert [event["path"] for event in bench.events(child, "checkpoint_skipped")] == [str(file)]
    assert bench.job(child).epochs_inherited == 0
    bench.assert_equal(child, bench.trained(fit__epochs=6))


def test_a_retry_ends_as_the_undisturbed_job_does(bench: Bench) -> None:
    parent = bench.trained(fit__epochs=3)
    spec = TrainSpec.model_validate(make_spec(fit__epochs=6)).model_dump(mode="json")
    # As a job of six epochs whose worker was lost after the third.
    lost = {"state": JobState.FAILED, "reason": Reason.LOST_WORKER, "spec": spec, "epochs": 6}
    with bench.store.writes.begin() as session:
        session.execute(update(Job).where(Job.id == parent).values(**lost))
    retried = bench.retried(parent)
    assert bench.job(retried).epochs_inherited == 3
    bench.assert_equal(retried, bench.trained(fit__epochs=6))

"""The exporter against a real MLflow server: whatever happened before, MLflow ends up equal to SQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric, Run
from mlflow.exceptions import MlflowException
from sqlalchemy import select

from services import jobs
from services.artifacts import job_folder
from services.errors import NotFound
from services.ids import new_id
from services.models import (
    Attempt,
    Base,
    Dataset,
    DatasetVersion,
    Epoch,
    Evaluation,
    Job,
    MlflowRemoval,
    Owner,
)
from services.settings import Settings
from services.spec import TrainSpec
from services.states import DatasetState, EvaluationState, JobState, Reason, Relation, Split
from services.store import Store, open_store
from worker.exporter import Exporter
from worker.mlflow_copy import MlflowCopy

START = 1_790_000_000_000
VERSION = sha256(b"pixels").hexdigest()
SCHEMA = {
    "name": "pixels",
    "task": "multiclass",
    "features": {"shape": [4, 4], "dtype": "uint8"},
    "target": {"shape": [], "dtype": "uint8", "names": ["label"], "class_names": ["a", "b", "c"]},
    "rows": {"train": 60, "test": 10},
}
SPEC: dict[str, Any] = {
    "dataset": "pixels",
    "name": "tiny",
    "split": {"validation": {"last": 20}},
    "preprocessing": {"scale": 255},
    "model": {"layers": ["Flatten", {"type": "Dense", "units": 3, "activation": "softmax"}]},
    "compile": {
        "loss": "sparse_categorical_crossentropy",
        "optimizer": {"type": "SGD", "learning_rate": 0.1},
        "metrics": ["accuracy"],
    },
    "fit": {"epochs": 3, "batch_size": 8},
}
METRICS = {"loss": 0.1 + 0.2, "accuracy": 2 / 3, "val_loss": 1 / 7, "val_accuracy": None}


class Server:
    """A real MLflow server in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True, cwd=folder
            )

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def wait_until_ready(self) -> None:
        wait_for(self._answers, 120)

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2):
            return True
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.signal(signal.SIGTERM)
        try:
            server.process.wait(10)
        finally:
            with suppress(ProcessLookupError):
                server.signal(signal.SIGKILL)


class Lab:
    """A store with one owner and one dataset, an exporter, and an eye on MLflow."""

    def __init__(self, folder: Path, url: str) -> None:
        self.root = folder
        self.store: Store = open_store(f"sqlite:///{folder}/store.db")
        Base.metadata.create_all(self.store.engine)
        self.client = MlflowClient(tracking_uri=url)
        self.url = url
        self.settings = Settings(
            database_url="unused",
            broker_url="unused",
            artifact_root=folder,
            mlflow_url=url,
            public_url="http://trainshed.example",
        )
        self.owner = f"ada-{new_id()[-6:]}"
        self.owner_id = new_id()
        with self.store.writes.begin() as session:
            session.add(Owner(id=self.owner_id, name=self.owner, created_at=START))
            session.add(DatasetVersion(sha256=VERSION, name="pixels", schema=SCHEMA, created_at=START))
            session.flush()
            session.add(
                Dataset(
                    name="pixels",
                    state=DatasetState.READY,
                    description="Tiny pictures.",
                    version=VERSION,
                    updated_at=START,
                )
            )
        self.exporter = self.new_exporter()

    def new_exporter(self, **changes: Any) -> Exporter:
        return Exporter(self.store, self.settings.model_copy(update=changes))

    def add_job(self, spec: dict[str, Any] | None = None, **changes: Any) -> str:
        resolved = TrainSpec.model_validate(spec or SPEC).with_seed(42)
        row = {
            "id": new_id(),
            "owner_id": self.owner_id,
            "name": resolved.name,
            "state": JobState.RUNNING,
            "spec": resolved.model_dump(mode="json"),
            "spec_sha256": sha256(b"spec").hexdigest(),
            "labels": {},
            "dataset_name": "pixels",
            "dataset_version": VERSION,
            "params_count": 51,
            "epochs": resolved.fit.epochs,
            "epochs_done": 0,
            "epochs_covered": 0,
            "epoch_fraction": 0.0,
            "epochs_inherited": 0,
            "priority": 0,
            "changed_at": START,
            "revision": 1,
            "fence": 1,
            "attempts": 1,
            "run_after_at": START,
            "created_at": START,
            "started_at": START + 1500,
            "timings": {},
            "startup": {},
            "environment": {"tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.4.6", "threads": 2},
            "mlflow_epochs": 0,
        } | changes
        with self.store.writes.begin() as session:
            session.add(Job(**row))
            session.flush()
            session.add(
                Attempt(
                    job_id=row["id"],
                    number=1,
                    fence=1,
                    worker="train@here",
                    device="cpu",
                    started_at=START + 1500,
                    first_epoch=0,
                )
            )
        return str(row["id"])

    def add_epochs(self, job: str, first: int, last: int, shift: int = 0, **metrics: float | None) -> None:
        """Epochs `first` to `last`, the latter excluded, covered by a checkpoint at once."""
        with self.store.writes.begin() as session:
            for epoch in range(first, last):
                session.add(
                    Epoch(
                        job_id=job,
                        epoch=epoch,
                        fence=1,
                        metrics=METRICS | metrics,
                        learning_rate=0.1,
                        seconds=0.25,
                        examples=40,
                        ended_at=START + 2000 + epoch * 10 + shift,
                    )
                )
        self.change(job, epochs_done=last, epochs_covered=last)

    def change(self, job: str, **changes: Any) -> None:
        with self.store.writes.begin() as session:
            row = session.get_one(Job, job)
            for name, value in changes.items():
                setattr(row, name, value)
            row.revision += 1

    def end(self, job: str, state: JobState, reason: Reason, **changes: Any) -> None:
        self.change(job, state=state, reason=reason, finished_at=START + 9000, **changes)

    def job(self, job: str) -> Job:
        with self.store.reads() as session:
            return session.get_one(Job, job)

    def export(self, exporter: Exporter | None = None) -> None:
        """Steps until nothing is to be done."""
        deadline = time.monotonic() + 60
        while (exporter or self.exporter).step():
            assert time.monotonic() < deadline, "the exporter finds no end"

    def export_until_synced(self, job: str) -> None:
        wait_for(lambda: not self.exporter.step() and self.job(job).mlflow_synced_at is not None, 60)

    def runs(self, job: str) -> list[Run]:
        experiment = self.client.get_experiment_by_name(f"trainshed/{self.owner}")
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id], f"tags.`trainshed.job_id` = '{job}'")
        return list(found)

    def run(self, job: str) -> Run:
        [run] = self.runs(job)
        return run

    def points(self, job: str, key: str) -> list[tuple[int, int, float]]:
        history = self.client.get_metric_history(self.run(job).info.run_id, key)
        return sorted((point.step, point.timestamp, point.value) for point in history)


@pytest.fixture
def lab(tmp_path: Path, server: Server) -> Lab:
    return Lab(tmp_path, server.url)


def test_a_queued_job_that_nobody_claimed_has_no_run(lab: Lab) -> None:
    job = lab.add_job(state=JobState.QUEUED, attempts=0)
    assert lab.exporter.step() is False
    assert lab.job(job).mlflow_run_id is None


def test_a_running_job_is_followed_as_far_as_checkpoints_go(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 2)
    with lab.store.writes.begin() as session:
        session.get_one(Job, job).epochs_covered = 1
    lab.export()
    row = lab.job(job)
    run = lab.run(job)
    assert (row.mlflow_run_id, row.mlflow_experiment_id) == (run.info.run_id, run.info.experiment_id)
    assert (row.mlflow_epochs, row.mlflow_synced_at) == (1, None)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "tiny"
    assert run.info.start_time == START + 1500
    assert lab.points(job, "loss") == [(0, START + 2000, 0.1 + 0.2)]
    assert "val_accuracy" not in run.data.metrics
    assert run.data.metrics["examples_per_second"] == 160
    lab.change(job, epochs_covered=2)
    lab.export()
    assert [step for step, _, _ in lab.points(job, "loss")] == [0, 1]


def test_a_run_says_what_was_trained_on_what_by_whom(lab: Lab) -> None:
    job = lab.add_job()
    lab.export()
    run = lab.run(job)
    params, tags = run.data.params, run.data.tags
    assert params["model.layers.1.units"] == "3"
    assert params["compile.optimizer.learning_rate"] == params["optimizer_learning_rate"] == "0.1"
    assert (params["epochs"], params["batch_size"], params["loss"]) == (
        "3",
        "8",
        "SparseCategoricalCrossentropy",
    )
    assert (params["optimizer_name"], params["seed"], params["params_count"]) == ("SGD", "42", "51")
    assert tags["trainshed.owner"] == tags["mlflow.user"] == lab.owner
    assert (tags["trainshed.attempt"], tags["trainshed.device"], tags["trainshed.keras"]) == (
        "1",
        "cpu",
        "3.15.1",
    )
    assert tags["mlflow.source.name"] == f"http://trainshed.example/v1/jobs/{job}"
    assert "is being trained" in tags["mlflow.note.content"]
    used = {item.dataset.name: item for item in run.inputs.dataset_inputs}
    assert used.keys() == {"pixels/train", "pixels/validation"}
    dataset = used["pixels/train"].dataset
    assert dataset.digest == VERSION[:32]
    assert json.loads(dataset.source)["version"] == VERSION


def test_an_ended_job_is_complete_and_then_left_alone(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 3)
    best = {"epoch": 1, "metric": "val_loss", "value": 1 / 7}
    lab.end(job, JobState.FAILED, Reason.DIVERGED, best=best)
    lab.export_until_synced(job)
    run = lab.run(job)
    assert (run.info.status, run.info.end_time) == ("FAILED", START + 9000)
    once = {
        key: run.data.metrics[key] for key in ("best_epoch", "train_seconds", "queue_seconds", "params_count")
    }
    assert once == {"best_epoch": 1, "train_seconds": 0.75, "queue_seconds": 1.5, "params_count": 51}
    files = {file.path for file in lab.client.list_artifacts(run.info.run_id)}
    assert files == {"model_summary.txt", "spec.yaml", "history.csv", "learning_curves.png"}
    assert "failed (diverged) after 3 of 3 epochs" in run.data.tags["mlflow.note.content"]
    assert lab.job(job).mlflow_problem is None
    assert lab.exporter.step() is False


def test_a_job_cancelled_in_the_queue_is_a_killed_run(lab: Lab) -> None:
    job = lab.add_job(attempts=0, started_at=None, dataset_version=None)
    lab.end(job, JobState.CANCELLED, Reason.USER_CANCELLED)
    lab.export_until_synced(job)
    run = lab.run(job)
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("KILLED", START, START + 9000)


def test_sending_everything_again_adds_nothing(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 3)
    lab.export()
    lab.change(job, mlflow_epochs=0, mlflow_run_id=None)
    lab.export(lab.new_exporter())
    assert [step for step, _, _ in lab.points(job, "loss")] == [0, 1, 2]
    lab.end(job, JobState.CANCELLED, Reason.USER_CANCELLED)
    lab.export_until_synced(job)
    before = lab.run(job).to_dictionary()
    lab.change(job, mlflow_synced_at=None, mlflow_epochs=0)
    lab.export_until_synced(job)
    assert lab.run(job).to_dictionary() == before
    assert before["info"]["status"] == "KILLED"


def test_of_two_runs_of_one_job_the_older_is_left(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 1)
    lab.export()
    run = lab.run(job)
    older = lab.client.create_run(
        run.info.experiment_id, start_time=START, tags={"trainshed.job_id": job}
    ).info.run_id
    lab.end(job, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(job)
    assert lab.run(job).info.run_id == lab.job(job).mlflow_run_id == older
    assert [step for step, _, _ in lab.points(job, "loss")] == [0]


def test_a_deleted_experiment_is_restored_and_a_deleted_run_made_anew(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 1)
    lab.export()
    run = lab.run(job)
    lab.client.delete_run(run.info.run_id)
    lab.client.delete_experiment(run.info.experiment_id)
    lab.end(job, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(job)
    assert lab.client.get_experiment(run.info.experiment_id).lifecycle_stage == "active"
    assert [step for step, _, _ in lab.points(job, "loss")] == [0]


def test_epochs_that_were_trained_again_replace_those_that_mlflow_had(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 3)
    lab.export()
    first_run = lab.run(job).info.run_id
    with lab.store.writes.begin() as session:
        for epoch in (1, 2):
            session.delete(session.get_one(Epoch, (job, epoch)))
    lab.change(job, epochs_done=1, epochs_covered=1)
    lab.export()
    lab.add_epochs(job, 1, 3, shift=500, loss=0.5)
    lab.end(job, JobState.FAILED, Reason.LOST_WORKER)
    lab.export_until_synced(job)
    assert lab.run(job).info.run_id != first_run
    assert [value for _, _, value in lab.points(job, "loss")] == [0.1 + 0.2, 0.5, 0.5]


def test_a_point_that_sql_does_not_have_is_found_at_the_end(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 2)
    lab.export()
    run_id = lab.run(job).info.run_id
    lab.client.log_batch(run_id, metrics=[Metric("loss", 9.0, START, 1), Metric("theirs", 1.0, START, 0)])
    lab.end(job, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(job)
    assert [value for _, _, value in lab.points(job, "loss")] == [0.1 + 0.2, 0.1 + 0.2]


def test_a_childs_run_holds_the_whole_history_and_names_the_parent(lab: Lab) -> None:
    job = lab.add_job(parent_id="p" * 36, relation=Relation.CONTINUE, epochs_inherited=2)
    lab.add_epochs(job, 0, 3)
    lab.end(job, JobState.CANCELLED, Reason.USER_CANCELLED)
    lab.export_until_synced(job)
    run = lab.run(job)
    assert [step for step, _, _ in lab.points(job, "loss")] == [0, 1, 2]
    assert (run.data.tags["trainshed.parent"], run.data.tags["trainshed.relation"]) == ("p" * 36, "continue")
    assert run.data.metrics["train_seconds"] == 0.25


def test_a_note_that_came_later_stands_beside_the_sentence_about_the_job(lab: Lab) -> None:
    job = lab.add_job()
    lab.end(job, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(job)
    with lab.store.writes.begin() as session:
        jobs.patch(session, job, {"note": "Too large a step."})
    lab.export_until_synced(job)
    sentence, _, note = lab.run(job).data.tags["mlflow.note.content"].partition("\n\n")
    assert "failed (diverged)" in sentence
    assert note == "Too large a step."


def with_a_model(lab: Lab) -> str:
    """A job that succeeded, with its files."""
    job = lab.add_job()
    folder = job_folder(lab.root, job)
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"weights")
    np.save(folder / "input_example.npy", np.zeros((5, 4, 4), np.uint8))
    lab.add_epochs(job, 0, 3)
    lab.end(job, JobState.SUCCEEDED, Reason.FINISHED, model_sha256=sha256(b"weights").hexdigest())
    return job


def delete_everywhere(lab: Lab, job: str) -> None:
    with lab.store.writes.begin() as session:
        jobs.delete(session, job, also_in_mlflow=True)


def removals(lab: Lab) -> list[str | None]:
    with lab.store.reads() as session:
        return list(session.scalars(select(MlflowRemoval.problem)))


def test_a_deleted_jobs_run_and_model_go_once_mlflow_is_there(lab: Lab) -> None:
    job, other = with_a_model(lab), with_a_model(lab)
    for each in (job, other):
        lab.export_until_synced(each)
    experiment = lab.run(job).info.experiment_id
    delete_everywhere(lab, job)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = lab.new_exporter(mlflow_url=f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert away.step() is False
    [problem] = removals(lab)
    assert "does not answer" in (problem or "")
    lab.export()
    assert removals(lab) == []
    assert lab.runs(job) == []
    [model] = lab.client.search_logged_models([experiment])
    assert model.tags["trainshed.job_id"] == other
    assert lab.run(other).info.status == "FINISHED"


def test_an_export_under_way_does_not_bring_a_deleted_job_back(lab: Lab) -> None:
    job = with_a_model(lab)
    chapters = MlflowCopy(lab.store, lab.settings).complete(job)
    next(chapters)
    delete_everywhere(lab, job)
    lab.export()
    with pytest.raises((NotFound, MlflowException)):
        list(chapters)
    assert (lab.runs(job), removals(lab)) == ([], [])


def test_a_job_deleted_before_its_run_was_made_gets_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    job = with_a_model(lab)
    copy = MlflowCopy(lab.store, lab.settings)
    experiment = copy._experiment(lab.owner)
    find = copy._only_run

    def find_late(*arguments: Any) -> str | None:
        delete_everywhere(lab, job)
        lab.export()
        return find(*arguments)

    monkeypatch.setattr(copy, "_only_run", find_late)
    with pytest.raises(NotFound):
        next(copy.complete(job))
    assert (list(lab.client.search_runs([experiment])), removals(lab)) == ([], [])


def test_an_evaluation_that_came_later_is_added(lab: Lab) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 1)
    lab.end(job, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(job)
    for split, number in ((Split.TEST, 0), (Split.VALIDATION, 1)):
        with lab.store.writes.begin() as session:
            session.add(
                Evaluation(
                    id=new_id(),
                    job_id=job,
                    owner_id=lab.owner_id,
                    split=split,
                    state=EvaluationState.SUCCEEDED,
                    metrics={"loss": 0.5, "accuracy": 0.75, "strange": None},
                    rows=10,
                    fence=1,
                    attempts=1,
                    created_at=START + 10_000,
                    finished_at=START + 11_000 + number,
                )
            )
        lab.change(job, mlflow_synced_at=None)
        lab.export_until_synced(job)
    run = lab.run(job)
    assert run.data.metrics["test_accuracy"] == run.data.metrics["eval_val_accuracy"] == 0.75
    assert lab.points(job, "test_loss") == [(0, START + 11_000, 0.5)]
    assert "pixels/test" in {item.dataset.name for item in run.inputs.dataset_inputs}
    assert run.info.end_time == START + 9000


def test_an_mlflow_that_is_away_is_a_stored_problem_until_it_is_back(lab: Lab, server: Server) -> None:
    job = lab.add_job()
    lab.add_epochs(job, 0, 2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert lab.new_exporter(mlflow_url=url).step() is False
    assert lab.job(job).mlflow_problem == f"MLflow at {url} does not answer."
    server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert lab.exporter.step() is False
        assert lab.exporter.step() is False
        assert time.monotonic() - began < 4
    finally:
        server.signal(signal.SIGCONT)
    assert "does not answer" in (lab.job(job).mlflow_problem or "")
    wait_for(lambda: not lab.exporter.step() and lab.job(job).mlflow_epochs == 2, 30)
    assert lab.job(job).mlflow_problem is None
    assert [step for step, _, _ in lab.points(job, "loss")] == [0, 1]


def test_what_mlflow_refuses_hinders_no_other_job(lab: Lab) -> None:
    broken = lab.add_job(model_sha256="0" * 64)
    lab.end(broken, JobState.SUCCEEDED, Reason.FINISHED)
    fine = lab.add_job()
    lab.end(fine, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(fine)
    assert lab.job(broken).mlflow_synced_at is None
    assert "model.keras" in (lab.job(broken).mlflow_problem or "")


def test_a_spec_beyond_mlflows_limits_is_logged_all_the_same(lab: Lab) -> None:
    layers = [{"type": "Dense", "units": 2} for _ in range(40)]
    labels = {"größe/ä": "", "a?": "1", "a!": "2", "//": "3", "x" * 120: "y" * 256}
    model = {"layers": ["Flatten", *layers, {"type": "Dense", "units": 3, "activation": "softmax"}]}
    fit = {**SPEC["fit"], "early_stopping": {"monitor": "n" * 9000}}
    job = lab.add_job({**SPEC, "model": model, "labels": labels, "fit": fit})
    lab.end(job, JobState.FAILED, Reason.DIVERGED)
    lab.export_until_synced(job)
    params = lab.run(job).data.params
    assert len(params) > 400
    assert params["monitor"] == "n" * 5999 + "…"
    assert (params["labels.größe/ä"], params["labels.a_"], params["labels.a__"]) == ("", "1", "2")
    assert params["labels.__"] == "3"


def test_many_epochs_are_sent_in_about_a_second(lab: Lab) -> None:
    job = lab.add_job()
    lab.export()
    lab.add_epochs(job, 0, 500)
    began = time.monotonic()
    lab.export()
    seconds = time.monotonic() - began
    print(f"500 epochs of 6 metrics: {seconds:.2f} s")
    assert lab.job(job).mlflow_epochs == 500
    assert len(lab.points(job, "loss")) == 500
    # One call a metric would take minutes.
    assert seconds < 20


@pytest.mark.parametrize("chapters", [1, 2, 4, 6])
def test_an_export_that_was_cut_off_goes_on_to_the_same_end(lab: Lab, chapters: int) -> None:
    job = lab.add_job()
    folder = job_folder(lab.root, job)
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"weights")
    np.save(folder / "input_example.npy", np.zeros((5, 4, 4), np.uint8))
    lab.add_epochs(job, 0, 3)
    digest = sha256(b"weights").hexdigest()
    lab.end(job, JobState.SUCCEEDED, Reason.FINISHED, model_sha256=digest)
    cut_off = MlflowCopy(lab.store, lab.settings).complete(job)
    for _ in islice(cut_off, chapters):
        pass
    lab.export_until_synced(job)
    run = lab.run(job)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in lab.points(job, "loss")] == [0, 1, 2]
    [model] = lab.client.search_logged_models([run.info.experiment_id])
    assert model.status == LoggedModelStatus.READY
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


@pytest.mark.slow
def test_the_model_in_mlflow_predicts_what_the_downloaded_one_predicts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras
    import mlflow.keras
    import mlflow.pyfunc

    pixels = np.random.default_rng(1).integers(0, 256, (7, 4, 4), dtype=np.uint8)
    model = keras.Sequential(
        [
            keras.Input((4, 4), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    job = lab.add_job(
        environment={"tensorflow": "2.21.0", "keras": keras.__version__, "numpy": np.__version__}
    )
    folder = job_folder(lab.root, job)
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    np.save(folder / "input_example.npy", pixels[:5])
    lab.add_epochs(job, 0, 1)
    digest = sha256((folder / "model.keras").read_bytes()).hexdigest()
    lab.end(job, JobState.SUCCEEDED, Reason.FINISHED, model_sha256=digest)
    lab.export_until_synced(job)
    run = lab.run(job)
    # A create whose answer was lost leaves a second one.
    lab.client.create_logged_model(
        run.info.experiment_id, "model", run.info.run_id, {"trainshed.job_id": job}
    )
    lab.change(job, mlflow_synced_at=None)
    lab.export_until_synced(job)
    [logged] = lab.client.search_logged_models([run.info.experiment_id])
    assert logged.status == LoggedModelStatus.READY
    assert [output.model_id for output in lab.run(job).outputs.model_outputs] == [logged.model_id]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.url)
    expected = keras.saving.load_model(folder / "model.keras").predict(pixels)
    for uri in (f"runs:/{run.info.run_id}/model", f"models:/{logged.model_id}"):
        np.testing.assert_array_equal(mlflow.keras.load_model(uri).predict(pixels), expected)
        np.testing.assert_array_equal(mlflow.pyfunc.load_model(uri).predict(pixels), expected)
    info = mlflow.models.Model.load(f"models:/{logged.model_id}")
    assert info.signature.inputs.inputs[0].shape == (-1, 4, 4)
    example = mlflow.pyfunc.load_model(f"models:/{logged.model_id}").input_example
    np.testing.assert_array_equal(np.asarray(example), pixels[:5])
    requirements = mlflow.pyfunc.get_model_dependencies(f"models:/{logged.model_id}")
    assert f"keras=={keras.__version__}" in Path(requirements).read_text()


def test_the_exporter_needs_neither_keras_nor_tensorflow() -> None:
    code = "import sys, worker.exporter; early = 'mlflow' in sys.modules; import worker.mlflow_copy;"
    code += "print(early, {'keras', 'tensorflow', 'matplotlib', 'sklearn'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split("\n")[0] == "False set()"

"""Predictions: rows in SQL, requests over HTTP, and processes that keep real models loaded.

One forkserver serves the module; TensorFlow is imported in it and in no test.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
import pytest
from alembic import command
from flask import Flask
from sqlalchemy import delete, insert, select, text, update

from api.app import create_app
from migrations.__main__ import configuration
from services import artifacts, datasets, errands, export, jobs, keys, leases, predictions
from services.answers import DataProblem
from services.errands import ErrandLease
from services.errors import Conflict, KeyReused, LeaseLost, NotFound
from services.ids import new_id
from services.jobs import Request
from services.models import Dataset, DatasetVersion, Job, Look, Owner, Prediction
from services.predictions import PredictionOptions, PredictionRequest
from services.problems import SpecInvalid
from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.settings import Settings
from services.spec import TrainSpec
from services.states import DatasetState, EvaluationState, Reason
from services.store import Store, now_ms, open_store
from tests.builders import make_claim, make_owner, make_success
from tests.conftest import client_of, wait_until
from tests.stack import family_of
from tests.test_api_contract import assert_problem
from tests.test_training import (
    in_a_fresh_process,
    make_images,
    make_order,
    make_spec,
    regression_spec,
    stored,
)
from worker import events
from worker.evaluate import Desk, evaluate_next
from worker.loops import Loop
from worker.mlflow_model import write_model_folder
from worker.predict import MOST_MODELS, Predictor, sweep
from worker.trainers import Trainers

INSTANCES = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
RESULT = predictions.result_of([{"class": 0, "class_name": "setosa"}])


def ask(session: Any, job_id: str, owner: str = "ada", **wanted: Any) -> str:
    request = PredictionRequest.model_validate(wanted or INSTANCES)
    wish = predictions.check(session, job_id, request)
    return predictions.ask(session, wish, make_owner(session, owner).id, "0" * 64).id


def claim(session: Any) -> predictions.PredictionClaim:
    found = predictions.claim(session, "housekeeping@here", 60)
    assert found is not None
    return found


# Rows in SQL


def test_a_claim_holds_what_the_process_needs(store: Store) -> None:
    with store.writes.begin() as session:
        job = make_success(session, sha256="e" * 64)
        assert not predictions.is_waiting(session)
        id_ = ask(session, job.lease.job_id, **INSTANCES, top_k=2)
        assert predictions.is_waiting(session)
        found = claim(session)
        assert not predictions.is_waiting(session)
    assert found.lease == ErrandLease(Prediction, id_, 1)
    assert (found.job_id, found.spec, found.dataset_version) == (
        job.lease.job_id,
        job.spec,
        job.dataset_version,
    )
    assert (found.model_sha256, found.split) == ("e" * 64, None)
    assert found.options == {**INSTANCES, "top_k": 2}


def test_rows_are_kept_until_they_are_predicted_and_no_longer(store: Store) -> None:
    ends: list[Callable[[Any, ErrandLease], None]] = [
        lambda session, lease: predictions.succeed(session, lease, RESULT),
        lambda session, lease: predictions.reject(session, lease, [DataProblem(code="x", message="No.")]),
        lambda session, lease: errands.fail(session, lease, "no"),
    ]
    for end in ends:
        with store.writes.begin() as session:
            id_ = ask(session, make_success(session).lease.job_id)
            lease = claim(session).lease
            assert session.get_one(Prediction, id_).request == INSTANCES
            end(session, lease)
        with store.reads.begin() as session:
            row = session.get_one(Prediction, id_)
            assert (row.request, row.lease_until, row.state.is_terminal) == (None, None, True)
            assert predictions.is_done(session, id_)


def test_a_result_is_read_with_its_rows_and_listed_without(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        first, second = ask(session, job_id), ask(session, job_id)
        predictions.succeed(session, claim(session).lease, RESULT)
    with store.reads.begin() as session:
        one = predictions.read(session, job_id, first)
        listed = predictions.page(session, job_id, 2, None)
        pages = [predictions.page(session, job_id, 1, after) for after in (None, second)]
    assert one.predictions is not None
    assert (one.state, one.rows, one.predictions[0].class_name) == (EvaluationState.SUCCEEDED, 1, "setosa")
    assert [(item.id, item.rows, item.predictions) for item in listed.data] == [
        (second, None, None),
        (first, 1, None),
    ]
    assert (listed.has_more, listed.next_after) == (False, None)
    assert [[item.id for item in page.data] for page in pages] == [[second], [first]]
    assert [page.next_after for page in pages] == [second, None]


def test_a_look_at_the_test_split_is_in_the_ledger_before_there_is_a_result(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        id_ = ask(session, job_id, split="test", reason="to see the misses")
        ask(session, job_id, split="validation")
    with store.reads.begin() as session:
        (look,) = session.scalars(select(Look)).all()
    assert (look.subject_id, look.subject, look.why) == (id_, "prediction", "to see the misses")


def test_only_a_job_with_a_model_and_that_split_can_predict(store: Store) -> None:
    with store.writes.begin() as session:
        running = make_claim(session).lease.job_id
    with store.writes.begin() as session:
        whole = make_success(session, owner="bob", split__validation=None).lease.job_id
    with pytest.raises(Conflict, match="is running: only a succeeded job"), store.writes.begin() as session:
        ask(session, running)
    with pytest.raises(Conflict, match="no validation split"), store.writes.begin() as session:
        ask(session, whole, split="validation")
    with pytest.raises(NotFound), store.writes.begin() as session:
        ask(session, "none")


def test_the_same_key_asks_once(store: Store) -> None:
    with store.writes.begin() as session:
        job_id, owner = make_success(session).lease.job_id, make_owner(session).id
        wanted = PredictionRequest.model_validate({"split": "test", "reason": "report"})
        wish = predictions.check(session, job_id, wanted)
        same = [predictions.ask(session, wish, owner, "1" * 64, Request("k", "1" * 64)) for _ in range(3)]
    assert len({asked.id for asked in same}) == 1
    assert [asked.is_new for asked in same] == [True, False, False]
    with pytest.raises(KeyReused), store.writes.begin() as session:
        predictions.ask(session, wish, owner, "2" * 64, Request("k", "2" * 64))
    with store.reads.begin() as session:
        assert len(session.scalars(select(Look)).all()) == 1


def test_a_lost_prediction_is_claimed_again_and_fails_after_three_tries(store: Store) -> None:
    with store.writes.begin() as session:
        id_ = ask(session, make_success(session).lease.job_id)
        old = claim(session).lease
        session.execute(update(Prediction).values(lease_until=now_ms() - 1))
        assert claim(session).lease == ErrandLease(Prediction, id_, 2)
    with pytest.raises(LeaseLost), store.writes.begin() as session:
        predictions.succeed(session, old, RESULT)
    with store.writes.begin() as session:
        session.execute(update(Prediction).values(lease_until=now_ms() - 1))
        claim(session)
        session.execute(update(Prediction).values(lease_until=now_ms() - 1))
        assert predictions.claim(session, "housekeeping@here", 60) is None
        assert errands.abandon(session, Prediction) == 1
        row = session.get_one(Prediction, id_, populate_existing=True)
        assert (row.state, row.request) == (EvaluationState.FAILED, None)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("wanted", "pointer", "said"),
    [
        ({**INSTANCES, "top_k": 4}, "/top_k", "iris has 3 classes"),
        ({**INSTANCES, "thresholds": 0.7}, "/thresholds", "the most probable one is answered"),
        ({"split": "test", "reason": "x", "rows": [0, 29, 30]}, "/rows/2", "has 30 rows; there is no row 30"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(
    store: Store, wanted: dict[str, Any], pointer: str, said: str
) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    with pytest.raises(SpecInvalid) as caught, store.writes.begin() as session:
        ask(session, job_id, **wanted)
    (problem,) = caught.value.problems
    assert problem.pointer == pointer
    assert said in problem.message


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"instances": [[1, 2, 3, 4]] * 21}, "/instances"),
        ({"instances": [[1, 2, 3, 4]] * 11, "top_k": 1}, "/instances"),
        ({"split": "test", "reason": "x"}, "/rows"),
        ({"split": "test", "reason": "x", "rows": [0] * 21}, "/rows"),
    ],
)
def test_an_answer_of_too_many_numbers_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], pointer: str
) -> None:
    # Iris has three classes.
    monkeypatch.setattr(predictions, "MOST_OUTPUTS", 60)
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        ask(session, job_id, instances=[[1, 2, 3, 4]] * 20)
    with pytest.raises(SpecInvalid) as caught, store.writes.begin() as session:
        ask(session, job_id, **wanted)
    (problem,) = caught.value.problems
    assert (problem.code, problem.pointer) == ("too_many_rows", pointer)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_instances_of_too_many_inputs_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MOST_INPUTS", 8)
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        ask(session, job_id, instances=[{}] * 2)
    with pytest.raises(SpecInvalid, match="3 rows of 4 inputs"), store.writes.begin() as session:
        ask(session, job_id, instances=[{}] * 3)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_of_many_positions_that_are_not_there_the_first_are_told_and_a_count(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    with pytest.raises(SpecInvalid) as caught, store.writes.begin() as session:
        ask(session, job_id, split="test", reason="x", rows=[0, *[30] * 150])
    *first, rest = caught.value.problems
    assert [problem.pointer for problem in first] == [f"/rows/{index}" for index in range(1, 101)]
    assert (rest.pointer, rest.message) == ("/rows", "50 more positions are not in the test split.")


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_job_that_is_deleted_just_now_is_not_there(store: Store) -> None:
    with store.writes.begin() as session:
        job_id, owner = make_success(session).lease.job_id, make_owner(session).id
        wish = predictions.check(session, job_id, PredictionRequest.model_validate(INSTANCES))
    found: list[Exception] = []

    def ask_meanwhile() -> None:
        try:
            with store.writes.begin() as session:
                predictions.ask(session, wish, owner, "0" * 64)
        except Exception as error:  # noqa: BLE001 - told to the test
            found.append(error)

    asking = Thread(target=ask_meanwhile)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with store.writes.begin() as session:
        session.execute(delete(Job).where(Job.id == job_id))
        asking.start()
        wait_until(lambda: session.scalar(waiting) == 1, 10)
    asking.join()
    assert [type(error) for error in found] == [NotFound]


# Over HTTP, without anybody who predicts


@pytest.fixture
def impatient(app: Flask) -> None:
    """All room for waiting is taken."""
    while app.extensions["trainshed"].waiters.acquire(blocking=False):
        pass


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("impatient")
def test_where_many_wait_already_the_answer_comes_at_once_and_says_where_to_look(
    http: httpx.Client, store: Store
) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    headers = {"Idempotency-Key": "k"}
    asked = http.post(f"/v1/jobs/{job_id}/predictions", json=INSTANCES, headers=headers)
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    assert http.get(asked.headers["Location"]).json() == asked.json()
    again = http.post(f"/v1/jobs/{job_id}/predictions", json=INSTANCES, headers=headers)
    assert again.json()["id"] == asked.json()["id"]
    other = http.post(f"/v1/jobs/{job_id}/predictions", json={"split": "train"}, headers=headers)
    assert_problem(other, 422)
    assert len(http.get(f"/v1/jobs/{job_id}/predictions").json()["data"]) == 1
    assert_problem(http.get(f"/v1/jobs/{job_id}/predictions/none"), 404)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ([], ""),
        ({**INSTANCES, "split": "train"}, ""),
        ({**INSTANCES, "rows": [1]}, ""),
        ({"instances": []}, "/instances"),
        ({"instances": [[1]] * 10_001}, "/instances"),
        ({"instances": {"a": 1}}, "/instances"),
        ({"split": "tests"}, "/split"),
        ({"split": "test"}, "/reason"),
        ({"split": "train", "rows": [-1]}, "/rows/0"),
        ({"split": "train", "rows": [0, *[-1] * 1_000]}, "/rows/1"),
        ({**INSTANCES, "top_k": 0}, "/top_k"),
        ({**INSTANCES, "thresholds": 2}, "/thresholds"),
        ({**INSTANCES, "thresholds": {"a": "b"}}, "/thresholds"),
        ({**INSTANCES, "treshold": 0.5}, "/treshold"),
    ],
)
def test_a_request_with_a_mistake_is_refused_with_its_place(
    http: httpx.Client, body: object, pointer: str
) -> None:
    answer = http.post("/v1/jobs/some/predictions", json=body)
    (problem,) = assert_problem(answer, 422)["errors"]
    assert problem["pointer"] == pointer


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_what_is_wrong_is_told_without_a_wait_for_those_who_write(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        url = f"/v1/jobs/{make_success(session).lease.job_id}/predictions"
    with store.writes.begin():
        assert_problem(http.post(url, json={**INSTANCES, "top_k": 9}), 422)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_file_for_a_job_without_model_is_not_received(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        running = make_claim(session).lease.job_id
    # The form is no form; nobody looks at it.
    form: dict[str, Any] = {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}
    assert_problem(http.post(f"/v1/jobs/{running}/predictions", **form), 409)
    assert_problem(http.post("/v1/jobs/none/predictions", **form), 404)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_form_has_one_file_and_few_parts(http: httpx.Client, store: Store, settings: Settings) -> None:
    with store.writes.begin() as session:
        url = f"/v1/jobs/{make_success(session).lease.job_id}/predictions"
    file = ("file", ("rows.csv", b"a\n1\n"))
    assert "another file" in assert_problem(http.post(url, files=[file] * 2), 422)["errors"][0]["message"]
    many = http.post(url, files=[file], data={f"part {number}": "x" for number in range(20)})
    assert "20 parts" in assert_problem(many, 413)["detail"]
    assert not list(artifacts.prediction_file(settings.artifact_root, "x").parent.glob("*"))


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_body_of_another_kind_or_size_is_refused(
    http: httpx.Client, store: Store, settings: Settings
) -> None:
    with store.writes.begin() as session:
        url = f"/v1/jobs/{make_success(session).lease.job_id}/predictions"
    assert_problem(http.post(url, content="a: 1", headers={"Content-Type": "application/yaml"}), 415)
    assert_problem(http.post(url, json={"instances": ["x" * 16_000_000]}), 413)
    for form in (
        {"files": {"rows": ("rows.csv", b"a\n1\n")}},
        {"files": {"file": ("rows.csv", b"a\n1\n"), "more": ("rows.csv", b"a\n1\n")}},
        {"files": {"file": ("rows.csv", b"a\n1\n")}, "data": {"options": "{"}},
        {"files": {"file": ("rows.csv", b"a\n1\n")}, "data": {"option": "{}"}},
    ):
        assert http.post(url, **form).status_code in {400, 422}, form
    broken = http.post(url, content=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert broken.status_code in {400, 422}
    assert not list(artifacts.prediction_file(settings.artifact_root, "x").parent.glob("*"))


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("impatient")
def test_a_file_of_a_request_that_is_refused_is_not_kept(
    http: httpx.Client, store: Store, settings: Settings
) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    folder = artifacts.prediction_file(settings.artifact_root, "x").parent
    url, files = f"/v1/jobs/{job_id}/predictions", {"file": ("rows.csv", b"a,b\n1,2\n")}
    assert_problem(http.post(url, files=files, data={"options": '{"top_k": 9}'}), 422)
    assert list(folder.iterdir()) == []
    headers = {"Idempotency-Key": "k"}
    asked = [http.post(url, files=files, headers=headers).json()["id"] for _ in range(2)]
    assert asked[0] == asked[1]
    assert [path.name for path in folder.iterdir()] == [f"prediction-{asked[0]}"]


# With real models


@dataclass
class Workshop:
    """A store with finished jobs of each task, and a predictor."""

    root: Path
    store: Store
    settings: Settings
    trainers: Trainers
    jobs: dict[str, str]
    inputs: dict[str, Any]
    """Some inputs of each job as arrays."""

    def predictor(self) -> Predictor:
        return Predictor(self.settings, self.store, self.trainers, "housekeeping@here", lambda: False)

    def model_file(self, task: str) -> Path:
        return artifacts.model_file(self.root, self.jobs[task])


def make_numbers(root: Path) -> dict[str, Any]:
    """A table with names and two targets, far from 0."""
    random = np.random.default_rng(5)
    x = random.normal(size=(200, 3)).astype(np.float32)
    y = (x @ np.array([[100, 1], [50, -2], [-20, 3]]) + [5_000, -40]).astype(np.float32)
    schema = DatasetSchema(
        name="numbers",
        task=Task.REGRESSION,
        features=Features(shape=(3,), dtype="float32", names=["a", "b", "c"]),
        target=Target(shape=(2,), dtype="float32", names=["price", "change"]),
        rows=Rows(train=160, test=40),
    )
    parts = {"train/x": x[:160], "train/y": y[:160], "test/x": x[160:], "test/y": y[160:]}
    return stored(root, schema, parts)


def make_answers(root: Path, *, labels: int) -> dict[str, Any]:
    """Two classes, or several labels."""
    random = np.random.default_rng(6)
    x = random.normal(size=(200, 4)).astype(np.float32)
    y = (x[:, :labels] > 0).astype(np.uint8) if labels > 1 else (x.sum(axis=1) > 0).astype(np.uint8)
    names = [f"label {i}" for i in range(labels)] if labels > 1 else ["answer"]
    schema = DatasetSchema(
        name="labels" if labels > 1 else "answers",
        task=Task.MULTILABEL if labels > 1 else Task.BINARY,
        features=Features(shape=(4,), dtype="float32"),
        target=Target(
            shape=(labels,) if labels > 1 else (),
            dtype="uint8",
            names=names,
            class_names=names if labels > 1 else ["no", "yes"],
        ),
        rows=Rows(train=160, test=40),
    )
    parts = {"train/x": x[:160], "train/y": y[:160], "test/x": x[160:], "test/y": y[160:]}
    return stored(root, schema, parts)


def dense(units: int, activation: str = "linear") -> dict[str, Any]:
    return {"layers": [{"type": "Dense", "units": units, "activation": activation}]}


def compiled(loss: Any) -> dict[str, Any]:
    return {"loss": loss, "optimizer": {"type": "Adam", "learning_rate": 0.05}}


FROM_LOGITS = {"type": "BinaryCrossentropy", "from_logits": True}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    root = tmp_path_factory.mktemp("workshop")
    url = f"sqlite:///{root / 'store.db'}"
    command.upgrade(configuration(url), "head")
    settings = Settings(
        database_url=url, broker_url="redis://127.0.0.1:9/0", artifact_root=root, mlflow_url="x"
    )
    found = Workshop(root, open_store(url), settings, Trainers("forkserver"), {}, {})
    fit = {"epochs": 3, "batch_size": 32}
    of_numbers = regression_spec(fit=fit) | {"model": dense(2), "dataset": "numbers"}
    of_numbers["preprocessing"] = {"scale": None, "target_scaling": "standardize"}
    plain = {"preprocessing": {}, "fit": fit}
    kinds = {
        "images": (make_images(root), make_spec()),
        "numbers": (make_numbers(root), of_numbers),
        "answers": (
            make_answers(root, labels=1),
            make_spec(dataset="answers", model=dense(1), compile=compiled(FROM_LOGITS), **plain),
        ),
        "labels": (
            make_answers(root, labels=3),
            make_spec(
                dataset="labels", model=dense(3, "sigmoid"), compile=compiled("binary_crossentropy"), **plain
            ),
        ),
    }
    for task, (dataset, spec) in kinds.items():
        found.jobs[task] = train(found, dataset, spec)
        found.inputs[task] = np.load(Path(dataset["path"]) / "test" / "x.npy")
    yield found
    found.store.engine.dispose()


def train(workshop: Workshop, dataset: dict[str, Any], document: dict[str, Any]) -> str:
    """A job with its model, evaluations and outcomes; trained by a real trainer."""
    spec = TrainSpec.model_validate(document)
    with workshop.store.writes.begin() as session:
        owner = session.scalar(select(Owner.id).where(Owner.name == "ada"))
        if owner is None:
            keys.make_key(session, "ada")
            owner = make_owner(session).id
        name, version = dataset["name"], dataset["version"]
        session.execute(
            insert(DatasetVersion).values(
                sha256=version, name=name, schema=dataset["schema"], created_at=now_ms()
            )
        )
        ready = {"state": DatasetState.READY, "description": "", "version": version, "updated_at": now_ms()}
        session.execute(insert(Dataset).values(name=name, **ready))
        job_id = jobs.submit(session, owner, spec, datasets.find(session, name), None).job_id
        held = leases.claim(session, "train@here", "cpu", 600)
    assert held is not None
    order = make_order(workshop.root / "jobs", dataset, spec.model_dump(mode="json"), job=job_id)
    with workshop.trainers.start(order, workshop.root / "log.txt") as trainer:
        finished = next(
            event for _ in iter(int, 1) for event in trainer.events(60) if isinstance(event, events.Finished)
        )
    assert finished.model is not None
    scaling = finished.target_scaling
    with workshop.store.writes.begin() as session:
        leases.succeed(
            session,
            held.lease,
            reason=Reason.FINISHED,
            detail="",
            best=None,
            model_sha256=finished.model.sha256,
            timings={},
            engine=finished.engine,
            target_scaling=None if scaling is None else vars(scaling),
        )
        results = [
            leases.EvaluationResult(one.split, dict(one.metrics), one.rows, one.outcome)
            for one in finished.evaluations
        ]
        leases.store_evaluations(session, held.lease, owner, results)
    return job_id


@pytest.fixture(scope="module")
def pause() -> Event:
    """While it is set, the loop does nothing."""
    return Event()


@pytest.fixture(scope="module")
def client(workshop: Workshop, pause: Event) -> Iterator[httpx.Client]:
    """Speaks HTTP to the API while a predictor runs in its loop."""
    with workshop.store.writes.begin() as session:
        key = keys.make_key(session, "ada")
    predictor = workshop.predictor()
    loop = Loop("predictions", lambda: not pause.is_set() and predictor.step(), 0.02)
    loop.start()
    app = create_app(workshop.settings)
    with client_of(app, key) as made:
        yield made
    loop.stop()
    loop.join(60)
    predictor.close()
    app.extensions["trainshed"].store.engine.dispose()


@pytest.fixture
def predictor(workshop: Workshop, pause: Event) -> Iterator[Predictor]:
    """A predictor of this test's own, without a loop; the other one has a rest."""
    pause.set()
    made = workshop.predictor()
    yield made
    made.close()
    pause.clear()


def predict(workshop: Workshop, client: httpx.Client, task: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/jobs/{workshop.jobs[task]}/predictions", json=body)
    while answer.status_code == 202:
        answer = client.get(answer.headers["Location"]) if "Location" in answer.headers else answer
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["state"] == "succeeded", found["detail"]
    return found


def plain_keras(path: str, inputs: Any) -> Any:
    """What the downloaded model says in plain Keras."""
    import keras

    return keras.models.load_model(path).predict(inputs, verbose=0)


def by_mlflow(folder: str, inputs: Any) -> Any:
    """What the model folder says in MLflow's own loader."""
    import mlflow

    return mlflow.pyfunc.load_model(folder).predict(inputs)


def test_classes_and_probabilities_are_those_of_the_downloaded_model(
    workshop: Workshop, client: httpx.Client
) -> None:
    images = workshop.inputs["images"]
    found = predict(workshop, client, "images", instances=images.tolist(), top_k=2)
    expected = in_a_fresh_process(plain_keras, str(workshop.model_file("images")), images)
    rows = found["predictions"]
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, rtol=1e-5)
    assert [row["class"] for row in rows] == np.argmax(expected, axis=1).tolist()
    assert [row["class_name"] for row in rows] == ["abc"[row["class"]] for row in rows]
    assert [best["probability"] for best in rows[0]["top_k"]] == sorted(rows[0]["probabilities"])[:0:-1]
    assert rows[0]["top_k"][0]["class_name"] == rows[0]["class_name"]
    assert (rows[0]["labels"], rows[0]["values"], found["rows"]) == (None, None, len(images))


def test_values_are_in_the_targets_own_units_for_rows_by_name(
    workshop: Workshop, client: httpx.Client, tmp_path: Path
) -> None:
    inputs = workshop.inputs["numbers"]
    rows = [dict(zip("abc", map(float, row), strict=True)) for row in inputs]
    found = predict(workshop, client, "numbers", instances=rows)["predictions"]
    values = np.array([[row["values"]["price"], row["values"]["change"]] for row in found])
    with workshop.store.reads.begin() as session:
        record = export.read(session, workshop.jobs["numbers"])
    scaling = record.job.target_scaling
    assert scaling is not None
    assert scaling["offset"][0] == pytest.approx(5_000, rel=0.01)
    folder = tmp_path / "model"
    folder.mkdir()
    write_model_folder(folder, workshop.model_file("numbers").parent, record, "0" * 32, "m-1")
    scaled = in_a_fresh_process(by_mlflow, str(folder), inputs)
    np.testing.assert_allclose(values, scaled * scaling["scale"] + scaling["offset"], rtol=1e-5)
    assert 4_500 < values[:, 0].mean() < 5_500


def test_logits_become_probabilities_and_a_threshold_moves_the_class(
    workshop: Workshop, client: httpx.Client
) -> None:
    inputs = workshop.inputs["answers"]
    logits = in_a_fresh_process(plain_keras, str(workshop.model_file("answers")), inputs)[:, 0]
    usual = predict(workshop, client, "answers", instances=inputs.tolist())["predictions"]
    yes = np.array([row["probabilities"][1] for row in usual])
    np.testing.assert_allclose(yes, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert [row["class"] for row in usual] == (logits >= 0).astype(int).tolist()
    bold = predict(workshop, client, "answers", instances=inputs.tolist(), thresholds={"yes": 0.9})
    assert [row["class"] for row in bold["predictions"]] == (yes >= 0.9).astype(int).tolist()
    body = {"instances": inputs.tolist(), "thresholds": {"Yes": 0.9}}
    refused = client.post(f"/v1/jobs/{workshop.jobs['answers']}/predictions", json=body)
    assert "Did you mean `yes`?" in assert_problem(refused, 422)["errors"][0]["message"]


def test_labels_have_thresholds_of_their_own(workshop: Workshop, client: httpx.Client) -> None:
    inputs = workshop.inputs["labels"]
    thresholds = {"label 0": 0.0, "label 2": 1.0}
    found = predict(workshop, client, "labels", instances=inputs.tolist(), thresholds=thresholds)
    for row in found["predictions"]:
        assert len(row["probabilities"]) == 3
        expected = ["label 0"] + (["label 1"] if row["probabilities"][1] >= 0.5 else [])
        assert row["labels"] == expected


def test_rows_of_a_split_are_predicted_by_their_positions(workshop: Workshop, client: httpx.Client) -> None:
    before = ledger(workshop)
    whole = predict(workshop, client, "images", split="test", reason="to see the misses")
    some = predict(workshop, client, "images", split="test", reason="again", rows=[3, 0])
    assert whole["rows"] == 60
    for one, other in zip(
        some["predictions"], (whole["predictions"][3], whole["predictions"][0]), strict=True
    ):
        # Products of matrices of another height may differ in the last bit.
        assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-5)
    assert (whole["looks_before"], some["looks_before"]) == (before, before + 1)
    predict(workshop, client, "images", split="train", rows=[0])
    assert ledger(workshop) == before + 2
    sent = predict(workshop, client, "images", instances=[workshop.inputs["images"][3].tolist()])
    assert sent["predictions"][0]["class"] == some["predictions"][0]["class"]


def ledger(workshop: Workshop) -> int:
    with workshop.store.reads.begin() as session:
        return len(session.scalars(select(Look)).all())


def test_rows_that_cannot_be_used_are_refused_with_their_places(
    workshop: Workshop, client: httpx.Client
) -> None:
    rows = [{"a": 1, "b": 2, "c": 3}, {"a": "x", "b": 2, "c": 3}, {"a": 1, "b": 2}]
    url = f"/v1/jobs/{workshop.jobs['numbers']}/predictions"
    problem = assert_problem(client.post(url, json={"instances": rows}), 422)
    assert sorted(item["pointer"] for item in problem["errors"]) == ["/instances/1/a", "/instances/2/c"]
    stored = client.get(url).json()["data"][0]
    assert (stored["state"], len(stored["problems"])) == ("failed", 2)


def test_a_file_of_rows_is_predicted(workshop: Workshop, client: httpx.Client) -> None:
    inputs = workshop.inputs["numbers"]
    lines = [",".join(repr(float(value)) for value in row) for row in inputs]
    url = f"/v1/jobs/{workshop.jobs['numbers']}/predictions"
    answer = client.post(url, files={"file": ("rows.csv", "\n".join(["a,b,c", *lines]).encode())}).json()
    by_name = predict(workshop, client, "numbers", instances=inputs.tolist())
    assert answer["predictions"] == by_name["predictions"]
    bad = client.post(url, files={"file": ("rows.csv", b"a,b,c\n1,2,3\n1,x,3\n")})
    (item,) = assert_problem(bad, 422)["errors"]
    assert item["pointer"] == "/file"
    assert "line 3" in item["message"]
    # It goes just after the answer is there.
    folder = artifacts.prediction_file(workshop.root, "x").parent
    wait_until(lambda: list(folder.iterdir()) == [], 10)


def test_a_file_of_more_rows_than_an_answer_holds_is_refused(
    workshop: Workshop, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There are two targets.
    monkeypatch.setattr(predictions, "MOST_OUTPUTS", 4)
    url = f"/v1/jobs/{workshop.jobs['numbers']}/predictions"
    refused = client.post(url, files={"file": ("rows.csv", b"a,b,c\n1,2,3\n1,2,3\n1,2,3\n")})
    assert assert_problem(refused, 422)["errors"][0]["pointer"] == "/file"
    whole = client.post(url, files={"file": ("rows.csv", b"a,b,c\n1,2,3\n1,2,3\n")})
    assert whole.json()["rows"] == 2


def test_another_process_takes_over_from_one_that_was_killed(
    workshop: Workshop, client: httpx.Client
) -> None:
    job = {"instances": workshop.inputs["images"][:1].tolist()}
    before = predict(workshop, client, "images", **job)
    assert model_processes()
    for child in model_processes():
        os.kill(child, signal.SIGKILL)
    assert predict(workshop, client, "images", **job)["predictions"] == before["predictions"]


def model_processes() -> set[int]:
    """What was forked from this process's forkserver and still runs."""
    family = [one for one in family_of(os.getpid()) if one.is_alive]
    lines = {one.pid: Path(f"/proc/{one.pid}/cmdline").read_bytes() for one in family}
    forked = [pid for pid, line in lines.items() if b"multiprocessing.forkserver" in line]
    return set(forked[1:])


def ask_and_step(workshop: Workshop, predictor: Predictor, task: str) -> Prediction:
    with workshop.store.writes.begin() as session:
        id_ = ask(session, workshop.jobs[task], instances=workshop.inputs[task][:1].tolist())
    assert predictor.step()
    with workshop.store.reads.begin() as session:
        return session.get_one(Prediction, id_)


def test_the_last_used_models_stay_loaded_for_a_while(
    workshop: Workshop, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = model_processes()
    first = set()
    for task in workshop.jobs:
        assert ask_and_step(workshop, predictor, task).state is EvaluationState.SUCCEEDED
        first = first or model_processes() - others
    assert len(workshop.jobs) > MOST_MODELS
    kept = model_processes() - others
    assert len(kept) == MOST_MODELS
    assert not first & kept
    assert ask_and_step(workshop, predictor, task).state is EvaluationState.SUCCEEDED
    assert model_processes() - others == kept
    assert not predictor.step()
    assert model_processes() - others == kept
    monkeypatch.setattr("worker.predict.KEPT_SECONDS", -1.0)
    assert not predictor.step()
    assert model_processes() - others == set()


def test_a_process_that_dies_at_each_try_makes_a_failure(
    workshop: Workshop, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = workshop.trainers.open

    def start_and_kill(*arguments: Any) -> Any:
        # At once: it could answer before somebody who looks for it finds it.
        started = start(*arguments)
        started.kill()
        return started

    monkeypatch.setattr(workshop.trainers, "open", start_and_kill)
    with workshop.store.writes.begin() as session:
        id_ = ask(session, workshop.jobs["labels"], **INSTANCES)
    for tries in range(1, errands.MOST_ATTEMPTS + 1):
        assert predictor.step()
        with workshop.store.reads.begin() as session:
            row = session.get_one(Prediction, id_)
        assert row.attempts == tries
    assert row.state is EvaluationState.FAILED
    assert "signal 9" in (row.detail or "")


def test_a_prediction_under_way_waits_for_the_next_worker_when_this_one_stops(
    workshop: Workshop, predictor: Predictor
) -> None:
    last = Predictor(workshop.settings, workshop.store, workshop.trainers, "housekeeping@here", lambda: True)
    row = ask_and_step(workshop, last, "labels")
    last.close()
    assert (row.state, row.attempts, row.fence) == (EvaluationState.QUEUED, 0, 1)
    assert predictor.step()
    with workshop.store.reads.begin() as session:
        assert session.get_one(Prediction, row.id).state is EvaluationState.SUCCEEDED


def ask_with_endless_file(workshop: Workshop) -> tuple[str, Path]:
    """A file whose reader waits for ever."""
    path = artifacts.prediction_file(workshop.root, new_id())
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    file = predictions.RowsFile(path.name.removeprefix("prediction-"), "rows.csv")
    with workshop.store.writes.begin() as session:
        wish = predictions.check(session, workshop.jobs["numbers"], PredictionOptions(), file)
        return predictions.ask(session, wish, make_owner(session).id, "0" * 64).id, path


@pytest.mark.usefixtures("predictor")
def test_the_reading_of_a_file_ends_when_the_worker_stops(workshop: Workshop) -> None:
    id_, path = ask_with_endless_file(workshop)
    last = Predictor(workshop.settings, workshop.store, workshop.trainers, "housekeeping@here", lambda: True)
    assert last.step()
    with workshop.store.writes.begin() as session:
        row = session.get_one(Prediction, id_)
        assert (row.state, row.attempts) == (EvaluationState.QUEUED, 0)
        assert path.is_fifo()
        session.delete(row)
    path.unlink()


@pytest.mark.usefixtures("predictor")
def test_the_reading_of_a_file_ends_when_the_lease_is_lost(workshop: Workshop) -> None:
    id_, path = ask_with_endless_file(workshop)

    def lose_lease() -> bool:
        with workshop.store.writes.begin() as session:
            session.execute(delete(Prediction).where(Prediction.id == id_))
        return False

    settings = workshop.settings.model_copy(update={"heartbeat_seconds": 0.0})
    other = Predictor(settings, workshop.store, workshop.trainers, "housekeeping@here", lose_lease)
    assert other.step()
    assert not path.exists()


def test_a_model_process_that_hangs_is_given_up(
    workshop: Workshop, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = model_processes()
    assert ask_and_step(workshop, predictor, "labels").state is EvaluationState.SUCCEEDED
    for child in model_processes() - others:
        os.kill(child, signal.SIGSTOP)
    monkeypatch.setattr("worker.predict.PATIENCE_SECONDS", 0.0)
    # More than a pipe takes.
    with workshop.store.writes.begin() as session:
        id_ = ask(session, workshop.jobs["labels"], instances=[[0.12345678901234567] * 4] * 10_000)
    assert predictor.step()
    with workshop.store.reads.begin() as session:
        row = session.get_one(Prediction, id_)
    assert (row.state, row.attempts) == (EvaluationState.FAILED, 1)
    assert "no answer after" in (row.detail or "")
    assert model_processes() == others


def test_a_deleted_job_gets_no_folder_again_and_its_model_goes(
    workshop: Workshop, predictor: Predictor
) -> None:
    others = model_processes()
    assert ask_and_step(workshop, predictor, "labels").state is EvaluationState.SUCCEEDED
    folder = workshop.model_file("labels").parent
    aside = folder.rename(folder.with_name("aside"))
    try:
        assert not predictor.step()
        assert model_processes() == others
        assert ask_and_step(workshop, predictor, "labels").state is EvaluationState.FAILED
        assert not folder.exists()
    finally:
        aside.rename(folder)


def test_files_that_nobody_will_read_are_removed(workshop: Workshop, predictor: Predictor) -> None:
    with workshop.store.writes.begin() as session:
        waiting = ask(session, workshop.jobs["labels"], **INSTANCES)
    paths = {id_: artifacts.prediction_file(workshop.root, id_) for id_ in (waiting, "gone", "new")}
    for id_, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, None if id_ == "new" else (0, 0))
    # A file that goes between two looks at it.
    gone = artifacts.prediction_file(workshop.root, "going")
    gone.symlink_to("nothing")
    assert not sweep(workshop.store, workshop.root)
    gone.unlink()
    assert [id_ for id_, path in paths.items() if path.exists()] == [waiting, "new"]
    for path in paths.values():
        path.unlink(missing_ok=True)
    predictor.step()


def test_a_model_that_is_not_the_saved_one_is_not_loaded(workshop: Workshop, predictor: Predictor) -> None:
    path = workshop.model_file("labels")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        row = ask_and_step(workshop, predictor, "labels")
    finally:
        path.write_bytes(whole)
    assert row.state is EvaluationState.FAILED
    assert "SHA-256" in (row.detail or "")
    assert ask_and_step(workshop, predictor, "labels").state is EvaluationState.SUCCEEDED


# What evaluations keep, and the pictures of it


def outcome(workshop: Workshop, client: httpx.Client, task: str, split: str) -> dict[str, Any]:
    listed = client.get(f"/v1/jobs/{workshop.jobs[task]}/evaluations").json()["data"]
    found = next(one for one in listed if one["split"] == split)
    assert found["outcome"] is None
    whole: dict[str, Any] = client.get(f"/v1/jobs/{workshop.jobs[task]}/evaluations/{found['id']}").json()
    return whole


def test_the_confusion_of_an_evaluation_has_its_accuracy(workshop: Workshop, client: httpx.Client) -> None:
    found = outcome(workshop, client, "images", "test")
    counts = np.array(found["outcome"]["confusion"]["counts"])
    assert found["outcome"]["confusion"]["class_names"] == ["a", "b", "c"]
    assert counts.sum() == found["rows"] == 60
    assert counts.trace() / counts.sum() == pytest.approx(found["metrics"]["accuracy"])


def test_labels_are_counted_one_by_one(workshop: Workshop, client: httpx.Client) -> None:
    found = outcome(workshop, client, "labels", "test")
    answered = predict(workshop, client, "labels", split="test", reason="to compare")["predictions"]
    for label in found["outcome"]["labels"]:
        yes = sum(label["label"] in row["labels"] for row in answered)
        assert label["true_positives"] + label["false_positives"] == yes
        assert sum(value for name, value in label.items() if name != "label") == 40


def test_a_scatter_is_in_the_targets_own_units(workshop: Workshop, client: httpx.Client) -> None:
    found = outcome(workshop, client, "numbers", "validation")["outcome"]["scatter"]
    answered = predict(workshop, client, "numbers", split="validation")["predictions"]
    assert [target["target"] for target in found] == ["price", "change"]
    for target in found:
        values = [row["values"][target["target"]] for row in answered]
        assert target["predicted"] == pytest.approx(values, rel=1e-5)
    assert 4_500 < np.mean(found[0]["true"]) < 5_500


def test_an_evaluation_asked_for_later_has_the_same_outcome(workshop: Workshop, client: httpx.Client) -> None:
    desk = Desk(workshop.settings, workshop.store, workshop.trainers, "housekeeping@here")
    for task in ("images", "numbers"):
        asked = client.post(
            f"/v1/jobs/{workshop.jobs[task]}/evaluations", json={"split": "test", "reason": "again"}
        )
        assert evaluate_next(desk)
        later = client.get(asked.headers["Location"]).json()
        assert later["state"] == "succeeded", later["detail"]
        first = outcome(workshop, client, task, "test")
        assert later["metrics"] == first["metrics"]
        assert later["outcome"] == first["outcome"]


def test_pictures_are_drawn_of_the_newest_evaluation(workshop: Workshop, client: httpx.Client) -> None:
    url = f"/v1/jobs/{workshop.jobs['images']}"
    png = client.get(f"{url}/confusion-matrix.png")
    assert png.content.startswith(b"\x89PNG")
    again = client.get(f"{url}/confusion-matrix.png", headers={"If-None-Match": png.headers["ETag"]})
    assert again.status_code == 304
    svg = client.get(f"{url}/confusion-matrix.svg", params={"split": "test"})
    assert svg.text.startswith("<?xml")
    refused = assert_problem(client.get(f"{url}/predicted-vs-true.png"), 409)
    assert "see confusion-matrix" in refused["detail"]
    missing = assert_problem(client.get(f"{url}/confusion-matrix.png", params={"split": "train"}), 409)
    assert "Ask for one first" in missing["detail"]


def test_pictures_of_numbers_and_of_labels_are_others(workshop: Workshop, client: httpx.Client) -> None:
    url = f"/v1/jobs/{workshop.jobs['numbers']}"
    assert client.get(f"{url}/predicted-vs-true.png").content.startswith(b"\x89PNG")
    refused = assert_problem(client.get(f"{url}/confusion-matrix.svg"), 409)
    assert "see predicted-vs-true" in refused["detail"]
    labels = client.get(f"/v1/jobs/{workshop.jobs['labels']}/confusion-matrix.png")
    assert labels.content.startswith(b"\x89PNG")

"""Submitting specs: bodies, dry runs, repeated submits, refusals, and a broker or database that is away."""

import json
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest
import valkey as client_library
import yaml
from flask import Flask
from sqlalchemy import func, select

from services.broker import KEY_PREFIX
from services.models import Job
from services.store import Store
from tests.builders import make_dataset, make_iris
from tests.conftest import client_of, free_port, start_valkey
from tests.specs import GONE
from tests.test_api_contract import assert_problem

YAML = {"Content-Type": "application/yaml"}
JSON = {"Content-Type": "application/json"}
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


def queued(store: Store) -> int:
    with store.reads.begin() as session:
        return session.scalar(select(func.count()).select_from(Job)) or 0


def test_a_spec_as_json_becomes_a_queued_job(http: httpx.Client, store: Store) -> None:
    answer = http.post("/v1/jobs", json=make_iris())
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert (job["state"], job["owner"], job["seed"], job["params_count"]) == ("queued", "ada", 42, 67)
    assert job["spec"]["fit"] == {
        "epochs": 5,
        "batch_size": 16,
        "early_stopping": None,
        "class_weight": None,
        "shuffle": True,
        "engine": "auto",
    }
    assert job["dataset"] == {"name": "iris", "version": None}
    assert job["queue"]["position"] == 1
    assert http.get(answer.headers["Location"]).json() == job


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_every_example_is_accepted_as_yaml(http: httpx.Client, path: Path) -> None:
    answer = http.post("/v1/jobs", content=path.read_bytes(), headers=YAML)
    assert answer.status_code == 201, answer.text


def test_a_seed_that_was_left_out_is_given_back(http: httpx.Client) -> None:
    seeds = {http.post("/v1/jobs", json=make_iris(seed=GONE)).json()["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_a_dry_run_resolves_and_queues_nothing(http: httpx.Client, store: Store) -> None:
    answer = http.post("/v1/jobs?dry_run=true", json=make_iris())
    assert answer.status_code == 200
    found = answer.json()
    assert (found["params_count"], found["batches_per_epoch"]) == (67, 6)
    assert found["spec"]["model"]["layers"][0]["name"] == "dense"
    assert queued(store) == 0


def test_settings_change_the_spec_before_it_is_checked(http: httpx.Client) -> None:
    settings = ["fit.epochs=7", "model.layers.0.units=9", "name=other", "split.validation=null"]
    spec = http.post("/v1/jobs", params={"set": settings}, json=make_iris()).json()["spec"]
    assert spec["fit"]["epochs"] == 7
    assert spec["model"]["layers"][0]["units"] == 9
    assert (spec["name"], spec["split"]) == ("other", {"validation": None})


def test_a_setting_reaches_into_a_bare_string(http: httpx.Client) -> None:
    spec = make_iris() | {"compile": {"loss": "sparse_categorical_crossentropy", "optimizer": "Adam"}}
    changes = {"dry_run": "true", "set": "compile.optimizer.learning_rate=0.5"}
    optimizer = http.post("/v1/jobs", json=spec, params=changes).json()["spec"]["compile"]["optimizer"]
    assert (optimizer["type"], optimizer["learning_rate"]) == ("Adam", 0.5)


@pytest.mark.parametrize(
    "setting", ["fit.epochs", "=3", "model.layers.9.units=3", "name.deeper.still=3", "model.layers.x=3"]
)
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_setting_that_leads_nowhere_is_refused(http: httpx.Client, store: Store, setting: str) -> None:
    document = assert_problem(http.post("/v1/jobs", params={"set": setting}, json=make_iris()), 422)
    assert document["errors"][0]["received"] == setting
    assert queued(store) == 0


@pytest.mark.parametrize(
    "value", ['"a\\u0000b"', '"\\ud800"', "[" * 50 + "]" * 50, "[" * 3_000 + "]" * 3_000]
)
@pytest.mark.parametrize("place", ["name", "fit.epochs", "labels.a"])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_setting_that_cannot_be_stored_is_refused(http: httpx.Client, value: str, place: str) -> None:
    answer = http.post("/v1/jobs", params={"set": f"{place}={value}"}, json=make_iris())
    assert answer.status_code in {400, 422}
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "null and void", "0x10"])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_setting_that_is_no_json_is_text(http: httpx.Client, value: str) -> None:
    answer = http.post("/v1/jobs", params={"set": f"name={value}"}, json=make_iris())
    assert answer.json()["name"] == value


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (make_iris(dataset="irs"), "/dataset"),
    (make_iris(fit__epochs=0), "/fit/epochs"),
    (make_iris(fit__epoch=3), "/fit/epoch"),
    (make_iris(model__layers__0__units="many"), "/model/layers/0/units"),
    (make_iris(model__layers__0__activation="rleu"), "/model/layers/0/activation"),
    (make_iris(model__layers__1__units=4), "/model/layers/1/units"),
    (make_iris(compile__loss="sparse_crossentropy"), "/compile/loss"),
    (make_iris(compile__optimizer__learning_rate=-1), "/compile/optimizer/learning_rate"),
    (make_iris(compile__metrics=["acuracy"]), "/compile/metrics/0"),
    (make_iris(split__validation={"last": 120}), "/split/validation/last"),
]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("document", "pointer"), MISTAKES, ids=[pointer for _, pointer in MISTAKES])
def test_a_spec_with_one_mistake_is_refused_with_its_place_and_what_would_do(
    http: httpx.Client, store: Store, document: dict[str, Any], pointer: str
) -> None:
    problem = assert_problem(http.post("/v1/jobs", json=document), 422)
    (item,) = problem["errors"]
    assert item["pointer"] == pointer
    assert len(item["message"]) > 15
    assert item["expected"]
    assert item["code"]
    assert queued(store) == 0


def test_all_mistakes_are_named_at_once(http: httpx.Client) -> None:
    document = make_iris(fit__epochs=0, model__layers__0__units=0, compile__loss="no", dataset="irs")
    problem = assert_problem(http.post("/v1/jobs", json=document), 422)
    pointers = {item["pointer"] for item in problem["errors"]}
    assert pointers == {"/fit/epochs", "/model/layers/0/units", "/compile/loss", "/dataset"}
    assert "4 problems" in problem["detail"]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_broken_yaml_is_refused_with_its_line(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", content="dataset: iris\nfit: [1,\nmodel: {]\n", headers=YAML)
    assert "(line 3" in assert_problem(answer, 400)["errors"][0]["message"]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_broken_json_is_refused_with_its_line(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", content='{"dataset": "iris",\n "fit": }', headers=JSON)
    assert "(line 2, column 9)" in assert_problem(answer, 400)["errors"][0]["message"]


BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", {}),
    "empty json": (b"", JSON),
    "empty yaml": (b"", YAML),
    "a number": (b"3", JSON),
    "a list": (b"[]", JSON),
    "null": (b"null", JSON),
    "text": (b'"iris"', JSON),
    "2 MB": (b'{"dataset": "' + b"x" * 2_000_000 + b'"}', JSON),
    "just below the limit": (b'{"dataset": "' + b"x" * 990_000 + b'"}', JSON),
    "NUL in json": (b'{"dataset": "iris", "name": "a\\u0000b"}', JSON),
    "a bare NUL": (b"\0", YAML),
    "half a surrogate pair": (b'{"dataset": "iris", "name": "\\ud800"}', JSON),
    "deep json": (b"[" * 100_000, JSON),
    "deep closed json": (b"[" * 20_000 + b"]" * 20_000, JSON),
    "deep yaml": (b"[" * 2_000 + b"]" * 2_000, YAML),
    "not utf-8": (b'{"dataset": "\xff\xfe"}', JSON),
    "utf-16": ('{"dataset": "iris"}'.encode("utf-16"), JSON),
    "a huge number": (b'{"dataset": "iris", "seed": ' + b"9" * 5_000 + b"}", JSON),
    "an endless float": (b'{"dataset": "iris", "seed": 1e999}', JSON),
    "an alias bomb": (b"a: &a [x, x]\nb: [*a, *a]\n", YAML),
    "a python tag": (b"!!python/object/apply:os.system [echo]", YAML),
    "a key twice": (b'{"dataset": "iris", "dataset": "wine"}', JSON),
    "two documents": (b"dataset: iris\n---\ndataset: wine\n", YAML),
    "xml": (b"<a/>", {"Content-Type": "application/xml"}),
    "a form": (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
    "multipart": (b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}),
    "no media type": (b"{}", {"Content-Type": ";;;"}),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/some/evaluations"])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_body_that_cannot_be_used_is_refused(
    http: httpx.Client, store: Store, path: str, name: str
) -> None:
    content, headers = BODIES[name]
    answer = http.post(path, content=content, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert_problem(answer, answer.status_code)
    assert queued(store) == 0


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_media_type_that_is_not_read_is_named(http: httpx.Client) -> None:
    content, headers = BODIES["xml"]
    problem = assert_problem(http.post("/v1/jobs", content=content, headers=headers), 415)
    assert "application/xml" in problem["errors"][0]["message"]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_body_that_is_too_large_is_refused(http: httpx.Client) -> None:
    content, headers = BODIES["2 MB"]
    assert_problem(http.post("/v1/jobs", content=content, headers=headers), 413)


def test_a_repeated_submit_answers_with_the_job_that_is_there(http: httpx.Client, store: Store) -> None:
    headers = {"Idempotency-Key": "once"}
    first = http.post("/v1/jobs", json=make_iris(), headers=headers)
    second = http.post("/v1/jobs", json=make_iris(), headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Location"] == first.headers["Location"]
    assert queued(store) == 1


def test_a_key_that_came_with_another_body_is_refused(http: httpx.Client, store: Store) -> None:
    headers = {"Idempotency-Key": "once"}
    http.post("/v1/jobs", json=make_iris(), headers=headers)
    for again in (make_iris(seed=43), {}):
        answer = http.post("/v1/jobs", json=again, headers=headers)
        assert answer.status_code == 422
    answer = http.post("/v1/jobs?set=seed=43", json=make_iris(), headers=headers)
    assert "used before" in assert_problem(answer, 422)["detail"]
    assert queued(store) == 1


@pytest.mark.parametrize("sent", ["", "k" * 256])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_an_idempotency_key_that_is_none_is_refused(http: httpx.Client, store: Store, sent: str) -> None:
    assert_problem(http.post("/v1/jobs", json=make_iris(), headers={"Idempotency-Key": sent}), 422)
    assert queued(store) == 0


def test_of_parallel_submits_with_one_key_one_makes_a_job(http: httpx.Client, store: Store) -> None:
    barrier = Barrier(8)

    def submit() -> httpx.Response:
        barrier.wait()
        return http.post("/v1/jobs", json=make_iris(seed=GONE), headers={"Idempotency-Key": "once"})

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(submit) for _ in range(8)]]
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert queued(store) == 1


def test_a_submit_rings_where_the_work_is(
    make_app: Callable[..., Flask], key: str, store: Store, tmp_path: Path
) -> None:
    port = free_port()
    broker = start_valkey(port, tmp_path)
    try:
        with client_of(make_app(broker_url=f"redis://127.0.0.1:{port}/0"), key) as http:
            http.post("/v1/jobs", json=make_iris())
            assert messages(port) == {"housekeeping": 1, "train": 1}
            with store.writes.begin() as session:
                make_dataset(session)
            http.post("/v1/jobs", json=make_iris())
            assert messages(port) == {"housekeeping": 1, "train": 2}
            broker = restarted(broker, port, tmp_path)
            http.post("/v1/jobs", json=make_iris())
            assert messages(port)["train"] == 1
    finally:
        broker.kill()
        broker.wait(10)


def restarted(broker: subprocess.Popen[bytes], port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Kill the broker, with all it holds, and start it again."""
    broker.kill()
    broker.wait(10)
    return start_valkey(port, folder)


def messages(port: int) -> dict[str, int]:
    with client_library.Valkey(port=port) as connection:
        return {queue: int(connection.llen(KEY_PREFIX + queue)) for queue in ("train", "housekeeping")}  # type: ignore[arg-type]


def test_a_submit_is_accepted_while_nothing_listens_at_the_broker(http: httpx.Client, store: Store) -> None:
    started = time.monotonic()
    assert http.post("/v1/jobs", json=make_iris()).status_code == 201
    assert time.monotonic() - started < 3
    assert queued(store) == 1


def test_a_submit_is_accepted_while_the_broker_takes_calls_and_never_answers(
    make_app: Callable[..., Flask], key: str, store: Store
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        app = make_app(broker_url=f"redis://127.0.0.1:{hole.getsockname()[1]}/0")
        with client_of(app, key) as http:
            started = time.monotonic()
            assert http.post("/v1/jobs", json=make_iris()).status_code == 201
            assert time.monotonic() - started < 3
    assert queued(store) == 1


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_many_submits_at_once_are_accepted_while_the_broker_never_answers(
    make_app: Callable[..., Flask], key: str, store: Store
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole, ThreadPoolExecutor(24) as pool:
        app = make_app(broker_url=f"redis://127.0.0.1:{hole.getsockname()[1]}/0")
        with client_of(app, key) as http:
            started = time.monotonic()
            answers = list(pool.map(lambda _: http.post("/v1/jobs", json=make_iris()), range(24)))
            took = time.monotonic() - started
    assert {answer.status_code for answer in answers} == {201}
    assert took < 10


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_database_that_is_away_is_told_with_a_time_to_try_again(make_app: Callable[..., Flask]) -> None:
    app = make_app(database_url=f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")
    with client_of(app, "ts_any") as http:
        for answer in (http.get("/v1/jobs"), http.post("/v1/jobs", json=make_iris())):
            problem = assert_problem(answer, 503)
            assert int(answer.headers["Retry-After"]) > 0
            assert "127.0.0.1" not in json.dumps(problem)
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "does not answer")
        assert http.get("/healthz").status_code == 200


def test_a_resolved_spec_resolves_to_itself(http: httpx.Client) -> None:
    for document in (make_iris(seed=GONE), make_iris(name=GONE, labels={"on": "12:30", "no": "0755"})):
        job = http.post("/v1/jobs", json=document).json()
        text = http.get(f"/v1/jobs/{job['id']}/spec?format=yaml")
        assert text.headers["Content-Type"] == "application/yaml"
        assert yaml.safe_load(text.text) == job["spec"]
        again = http.post("/v1/jobs", content=text.content, headers=YAML)
        assert again.status_code == 201
        assert again.json()["spec"] == job["spec"]
        assert http.get(f"/v1/jobs/{job['id']}/spec").json() == job["spec"]

"""Jobs over HTTP: list, show, wait, cancel, delete, and the files and tables of one job."""

import csv
import io
import time
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
from flask import Flask
from sqlalchemy import select, update

from api.parts import MOST_WAITERS
from services import jobs, leases
from services.artifacts import job_folder, log_file, model_file
from services.models import Job, Look
from services.settings import Settings
from services.states import Reason
from services.store import Store
from tests.builders import make_claim, make_epochs, make_job, make_success
from tests.conftest import wait_until
from tests.test_api_contract import assert_problem


def test_a_list_is_walked_without_gap_or_duplicate(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        made = [make_job(session) for _ in range(45)]
    seen: list[str] = []
    after: str | None = None
    sizes = []
    while True:
        page = http.get("/v1/jobs", params={"limit": 20} | ({"after": after} if after else {})).json()
        seen += [job["id"] for job in page["data"]]
        sizes.append(len(page["data"]))
        after = page["next_after"]
        with store.writes.begin() as session:
            make_job(session)
        if not page["has_more"]:
            break
    assert sizes == [20, 20, 5]
    assert after is None
    assert seen == sorted(made, reverse=True)


@pytest.mark.parametrize("limit", ["0", "201", "-1", "many", ""])
def test_a_page_of_no_size_is_refused(http: httpx.Client, limit: str) -> None:
    (item,) = assert_problem(http.get("/v1/jobs", params={"limit": limit}), 422)["errors"]
    assert item["pointer"] == "?limit"


def test_lists_are_filtered(http: httpx.Client, store: Store) -> None:
    label = "odd clé's.$[0]"
    with store.writes.begin() as session:
        hers = make_job(session, "ada", labels={"course": "ds3"})
        his = make_job(session, "bob", labels={"course": "ds3", label: "a:b"})
        wine = make_job(session, "ada", dataset="wine", model__layers__1__units=3)
        jobs.cancel(session, wine)

    def found(**wanted: str) -> set[str]:
        return {job["id"] for job in http.get("/v1/jobs", params=wanted).json()["data"]}

    assert found() == {hers, his, wine}
    assert found(owner="ada") == {hers, wine}
    assert found(owner="nobody") == set()
    assert found(state="cancelled") == {wine}
    assert found(dataset="iris") == {hers, his}
    assert found(label="course:ds3") == {hers, his}
    assert found(label="course:ds") == set()
    assert found(label=f"{label}:a:b") == {his}
    assert found(label="course:ds3", owner="bob", state="queued") == {his}


@pytest.mark.parametrize("wanted", [{"state": "asleep"}, {"label": "course"}, {"label": ":x"}])
def test_a_filter_that_makes_no_sense_is_refused(http: httpx.Client, wanted: dict[str, str]) -> None:
    assert_problem(http.get("/v1/jobs", params=wanted), 422)


def test_a_job_answers_with_what_came_of_it(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_success(session)
        session.execute(update(Job).values(mlflow_run_id="r" * 32, mlflow_experiment_id="1"))
    job = http.get(f"/v1/jobs/{claim.lease.job_id}").json()
    assert (job["state"], job["reason"], job["queue"]) == ("succeeded", "finished", None)
    assert job["progress"] == {"epoch": 5, "of": 5, "inherited": 0, "percent": 100.0, "eta_seconds": None}
    assert job["best"] == {"epoch": 4, "metric": "val_loss", "value": 0.22}
    assert job["metrics"]["loss"] == 0.2
    assert "val_accuracy" not in job["metrics"]
    assert (job["attempts"], job["device"], job["engine"], job["steps_seconds"]) == (
        1,
        "cpu",
        "fit",
        {"fit": 1.5},
    )
    assert job["mlflow"] == {
        "run_id": "r" * 32,
        "url": f"http://mlflow.example/#/experiments/1/runs/{'r' * 32}",
        "synced": False,
    }
    times = job["timings"]
    assert times["created_at"].endswith("Z")
    assert times["queue_seconds"] >= 0
    assert times["first_epoch_seconds"] >= 0
    assert times["train_seconds"] == pytest.approx(sum(0.1 + epoch / 7 for epoch in range(5)))


def test_a_running_job_tells_its_progress(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 1), 60, None)
        leases.beat(session, lease, 60, 0.5)
    progress = http.get(f"/v1/jobs/{lease.job_id}").json()["progress"]
    assert (progress["epoch"], progress["of"], progress["percent"]) == (2, 5, 50.0)
    assert progress["eta_seconds"] > 0


def test_a_running_job_tells_its_engine_and_where_the_time_to_its_first_epoch_went(
    http: httpx.Client, store: Store
) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.engine_chosen(session, lease, "graph", "An epoch has 5 steps.")
    job = http.get(f"/v1/jobs/{lease.job_id}").json()
    assert (job["engine"], job["engine_why"]) == ("graph", "An epoch has 5 steps.")
    assert job["timings"]["startup"] == {}
    with store.writes.begin() as session:
        leases.started_up(session, lease, {"claim": 0.02, "fork": 0.03, "deliver": 0.01})
    startup = http.get(f"/v1/jobs/{lease.job_id}").json()["timings"]["startup"]
    assert list(startup) == ["queue", "claim", "fork", "deliver"]
    assert (startup["queue"] >= 0, startup["fork"]) == (True, 0.03)


def test_every_link_leads_somewhere(http: httpx.Client, store: Store, settings: Settings) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    _write(model_file(settings.artifact_root, job_id), b"a model")
    for name, address in http.get(f"/v1/jobs/{job_id}").json()["links"].items():
        assert http.get(address).status_code == 200, name


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_job_that_is_the_same_is_not_sent_again(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    first = http.get(f"/v1/jobs/{job_id}")
    same = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    with store.writes.begin() as session:
        jobs.cancel(session, job_id)
    other = http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": first.headers["ETag"]})
    assert other.status_code == 200
    assert other.headers["ETag"] != first.headers["ETag"]


def test_who_waits_is_answered_when_the_job_changes(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    seen = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    asked = Event()
    answers: list[httpx.Response] = []

    def wait() -> None:
        asked.set()
        answers.append(_wait(http, job_id, seen, 30))

    thread = Thread(target=wait)
    started = time.monotonic()
    thread.start()
    asked.wait(5)
    with store.writes.begin() as session:
        jobs.cancel(session, job_id)
    thread.join(15)
    assert [answer.json()["state"] for answer in answers] == ["cancelled"]
    assert time.monotonic() - started < 10


def _wait(http: httpx.Client, job_id: str, etag: str, seconds: int) -> httpx.Response:
    headers = {"If-None-Match": etag, "Prefer": f"respond-async, wait={seconds}"}
    return http.get(f"/v1/jobs/{job_id}", headers=headers)


def test_who_waits_in_vain_is_told_that_nothing_changed(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    seen = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    started = time.monotonic()
    assert _wait(http, job_id, seen, 1).status_code == 304
    assert 1 <= time.monotonic() - started < 5


def test_one_waiter_too_many_is_answered_at_once(http: httpx.Client, store: Store, app: Flask) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    seen = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    waiters = app.extensions["trainshed"].waiters
    for _ in range(MOST_WAITERS):
        waiters.acquire()
    started = time.monotonic()
    assert _wait(http, job_id, seen, 30).status_code == 304
    assert time.monotonic() - started < 5


def test_who_waits_is_answered_when_the_server_closes(http: httpx.Client, store: Store, app: Flask) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    seen = http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    closing, looked = Event(), Event()

    def is_closing() -> bool:
        looked.set()
        return closing.is_set()

    app.extensions["trainshed"].closing = is_closing
    answers: list[httpx.Response] = []
    thread = Thread(target=lambda: answers.append(_wait(http, job_id, seen, 30)))
    started = time.monotonic()
    thread.start()
    wait_until(looked.is_set)
    closing.set()
    thread.join(15)
    assert [answer.status_code for answer in answers] == [304]
    assert time.monotonic() - started < 10


def test_cancelling_tells_what_it_did(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        running = make_claim(session).lease.job_id
        done = make_success(session).lease.job_id
        queued = make_job(session)
    at_once = http.post(f"/v1/jobs/{queued}/cancel")
    assert (at_once.status_code, at_once.json()["state"]) == (200, "cancelled")
    assert http.post(f"/v1/jobs/{queued}/cancel").status_code == 200
    wished = http.post(f"/v1/jobs/{running}/cancel")
    assert (wished.status_code, wished.json()["state"]) == (202, "running")
    assert wished.json()["cancel_requested"] is True
    assert "succeeded already" in assert_problem(http.post(f"/v1/jobs/{done}/cancel"), 409)["detail"]


def test_a_job_that_ended_is_deleted_with_its_files(
    http: httpx.Client, store: Store, settings: Settings
) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    _write(model_file(settings.artifact_root, job_id), b"a model")
    asked = {"split": "test", "reason": "curious"}
    assert http.post(f"/v1/jobs/{job_id}/evaluations", json=asked).status_code == 202
    answer = http.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not job_folder(settings.artifact_root, job_id).exists()
    assert_problem(http.delete(f"/v1/jobs/{job_id}"), 404)
    assert_problem(http.get(f"/v1/jobs/{job_id}"), 404)
    with store.reads.begin() as session:
        assert session.scalars(select(Look.why)).all() == ["curious"]
    assert [look["job"] for look in http.get("/v1/datasets/iris/ledger").json()["data"]] == [job_id]


def test_a_job_that_has_not_ended_is_not_deleted(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    assert "cancel it first" in assert_problem(http.delete(f"/v1/jobs/{job_id}"), 409)["detail"]


def test_the_history_is_the_same_to_the_last_bit_as_json_and_as_csv(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session, fit__epochs=12).lease.job_id
    found = http.get(f"/v1/jobs/{job_id}/history").json()
    assert found["params"] == {"verbose": 0, "epochs": 12, "steps": 6}
    assert found["epoch"] == list(range(12))
    assert list(found["history"]) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert found["history"]["loss"] == [1 / (epoch + 1) for epoch in range(12)]
    assert found["history"]["val_accuracy"] == [None] * 12
    assert found["provisional_from"] is None
    table = http.get(f"/v1/jobs/{job_id}/history?format=csv")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    for name, values in found["history"].items():
        assert [float(row[name]) if row[name] else None for row in rows] == values
    assert [float(row["epoch_seconds"]) for row in rows] == [0.1 + epoch / 7 for epoch in range(12)]
    assert [float(row["learning_rate"]) for row in rows] == [0.01] * 12
    accepted = http.get(f"/v1/jobs/{job_id}/history", headers={"Accept": "text/csv"})
    assert accepted.text == table.text


def test_the_history_begins_where_it_is_asked_to(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 3, checkpoint_at=[1]), 60, None)
    found = http.get(f"/v1/jobs/{lease.job_id}/history?from_epoch=2").json()
    assert (found["epoch"], found["provisional_from"]) == ([2, 3], 2)
    assert found["history"]["loss"] == [1 / 3, 1 / 4]
    assert http.get(f"/v1/jobs/{lease.job_id}/history?from_epoch=9").json()["epoch"] == []


def test_a_history_without_epochs_is_empty(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session, with_data=False)
    found = http.get(f"/v1/jobs/{job_id}/history").json()
    assert (found["epoch"], found["history"], found["params"]["steps"]) == ([], {}, None)
    table = http.get(f"/v1/jobs/{job_id}/history?format=csv").text
    assert table == "epoch,learning_rate,epoch_seconds\n"


def test_the_summary_comes_from_arithmetic(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session, with_data=False)
    found = http.get(f"/v1/jobs/{job_id}/summary").json()
    assert [(layer["name"], layer["params"]) for layer in found["layers"]] == [("dense", 40), ("dense_1", 27)]
    assert (found["params"], found["trainable_params"]) == (67, 67)
    assert "dense_1" in found["text"]


def test_a_model_is_there_once_the_job_has_succeeded(
    http: httpx.Client, store: Store, settings: Settings
) -> None:
    with store.writes.begin() as session:
        running = make_claim(session).lease.job_id
        job_id = make_success(session, name="A model / of mine", sha256="e" * 64).lease.job_id
    assert "only a succeeded job" in assert_problem(http.get(f"/v1/jobs/{running}/model"), 409)["detail"]
    assert_problem(http.get(f"/v1/jobs/{job_id}/model"), 404)
    content = bytes(range(256)) * 1_000
    _write(model_file(settings.artifact_root, job_id), content)
    answer = http.get(f"/v1/jobs/{job_id}/model")
    assert answer.content == content
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename=A-model-of-mine.keras"
    assert answer.headers["ETag"] == f'"{"e" * 64}"'
    part = http.get(f"/v1/jobs/{job_id}/model", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    known = http.get(f"/v1/jobs/{job_id}/model", headers={"If-None-Match": answer.headers["ETag"]})
    assert known.status_code == 304


def test_logs_are_the_newest_attempts_or_the_one_asked_for(
    http: httpx.Client, store: Store, settings: Settings
) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.end_failed(session, lease, Reason.DEPLOY, "deploy")
        assert leases.claim(session, "train@here", "cpu", 60) is not None
    _write(log_file(settings.artifact_root, lease.job_id, 1), b"first\n")
    _write(log_file(settings.artifact_root, lease.job_id, 2), b"second \xff\n")
    newest = http.get(f"/v1/jobs/{lease.job_id}/logs")
    assert newest.content == b"second \xff\n"
    assert newest.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert http.get(f"/v1/jobs/{lease.job_id}/logs?attempt=1").text == "first\n"
    assert_problem(http.get(f"/v1/jobs/{lease.job_id}/logs?attempt=3"), 404)


def test_logs_are_empty_before_the_first_attempt(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    answer = http.get(f"/v1/jobs/{job_id}/logs")
    assert (answer.status_code, answer.text) == (200, "")


def test_attempts_tell_what_ran_where_and_how_it_ended(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session, worker="train@one").lease
        leases.write_epochs(session, lease, make_epochs(0, 2, checkpoint_at=[1]), 60, None)
        leases.end_failed(session, lease, Reason.DEPLOY, "The worker was told to stop.")
        leases.claim(session, "train@two", "gpu:0", 60)
    first, second = http.get(f"/v1/jobs/{lease.job_id}/attempts").json()["data"]
    assert (first["number"], first["worker"], first["reason"], first["epochs_kept"]) == (
        1,
        "train@one",
        "deploy",
        2,
    )
    assert (second["device"], second["first_epoch"], second["ended_at"]) == ("gpu:0", 2, None)


def test_a_job_without_an_epoch_has_no_picture(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    answer = http.get(f"/v1/jobs/{job_id}/learning-curves.png")
    assert answer.status_code == 409
    assert "no finished epoch" in answer.json()["detail"]


def test_a_picture_is_drawn_and_kept(http: httpx.Client, store: Store, settings: Settings) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    pictures = [http.get(f"/v1/jobs/{job_id}/learning-curves.svg") for _ in range(2)]
    assert [picture.status_code for picture in pictures] == [200, 200]
    assert pictures[0].content == pictures[1].content
    assert b"<svg" in pictures[0].content
    assert len(list(job_folder(settings.artifact_root, job_id).glob("learning-curves-*.svg"))) == 1

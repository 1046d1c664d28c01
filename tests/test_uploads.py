"""Uploads over HTTP: received, owned, repeated, read in a child, and used by a spec."""

import errno
import hashlib
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flask import Flask
from sqlalchemy import update

from services import datasets, uploads
from services.artifacts import upload_folder
from services.ids import new_id
from services.keys import make_key
from services.models import Upload
from services.settings import Settings
from services.store import Store, now_ms
from tests.builders import make_iris
from tests.conftest import client_of
from tests.test_api_contract import assert_problem
from tests.uploading import PEOPLE, make_meta, send, stored, upload
from worker import limited, upload_child
from worker.reading import read_next, read_next_upload, remove_leftovers
from worker.versions import verify_version


@pytest.fixture
def root(settings: Settings) -> Path:
    """The artifact root."""
    return settings.artifact_root


def test_a_table_becomes_a_dataset(http: httpx.Client, store: Store, root: Path) -> None:
    sent = send(http)
    assert sent.status_code == 202
    answer = sent.json()
    assert sent.headers["Location"] == f"/v1/datasets/people/uploads/{answer['id']}"
    assert (answer["state"], answer["version"], answer["filename"]) == ("processing", None, "people.csv")
    assert answer["sha256"] == hashlib.sha256(PEOPLE.encode()).hexdigest()
    assert answer["bytes"] == len(PEOPLE.encode())
    assert answer["meta"]["test"] == {"fraction": 0.2}
    waiting = http.get("/v1/datasets/people").json()
    assert (waiting["state"], waiting["owner"], waiting["schema"]) == ("processing", "ada", None)

    assert read_next_upload(store, root)
    assert not read_next_upload(store, root)

    ready = http.get(sent.headers["Location"]).json()
    assert (ready["state"], ready["problems"]) == ("ready", [])
    shown = http.get("/v1/datasets/people").json()
    assert (shown["state"], shown["version"]) == ("ready", ready["version"])
    assert shown["schema"]["rows"] == {"train": 4, "test": 2, "validation": 0}
    assert shown["statistics"]["targets"][0]["name"] == "rent"
    assert len(shown["statistics"]["samples"]) == 4
    listed = {one["name"]: one for one in http.get("/v1/datasets").json()["data"]}
    assert listed["people"] == shown | {"statistics": None}
    assert http.get(f"/v1/datasets/people/versions/{ready['version'][:8]}").json() == shown
    (version,) = http.get("/v1/datasets/people/versions").json()["data"]
    assert (version["version"], version["rows"]) == (ready["version"], shown["schema"]["rows"])
    verify_version(root, ready["version"])
    assert not upload_folder(root, answer["id"]).exists()


def test_what_is_wrong_with_a_file_is_said_by_line_and_column(
    http: httpx.Client, store: Store, root: Path
) -> None:
    ended = upload(http, store, root, PEOPLE.replace("41", "forty").replace("2.0", ""))
    assert (ended["state"], ended["version"]) == ("rejected", None)
    assert [(p["code"], p["line"], p["column"], p["received"]) for p in ended["problems"]] == [
        ("not_a_number", 3, "age", "forty"),
        ("missing_value", 4, "income", None),
    ]
    shown = http.get("/v1/datasets/people").json()
    assert (shown["state"], shown["problems"]) == ("rejected", ended["problems"])
    assert shown["problem"] == "`age` holds text where numbers are needed. And 1 more."
    job = http.post("/v1/jobs", json=make_iris(dataset="people"))
    (item,) = assert_problem(job, 422)["errors"]
    assert (item["code"], item["pointer"]) == ("dataset_rejected", "/dataset")
    better = upload(http, store, root)
    assert better["state"] == "ready"
    assert http.get("/v1/datasets/people").json()["problems"] == []


def test_a_spec_on_a_dataset_that_is_being_read_is_told_so(http: httpx.Client) -> None:
    send(http)
    (item,) = assert_problem(http.post("/v1/jobs", json=make_iris(dataset="people")), 422)["errors"]
    assert (item["code"], item["pointer"]) == ("dataset_not_ready", "/dataset")
    assert "still being read" in item["message"]


def test_a_newer_file_is_a_newer_version_and_a_bad_one_changes_nothing(
    http: httpx.Client, store: Store, root: Path
) -> None:
    first = upload(http, store, root)["version"]
    send(http, PEOPLE.replace("700", "710"))
    assert http.get("/v1/datasets/people").json()["state"] == "ready"
    read_next_upload(store, root)
    second = http.get("/v1/datasets/people").json()["version"]
    assert second != first
    assert upload(http, store, root, "nothing")["state"] == "rejected"
    shown = http.get("/v1/datasets/people").json()
    assert (shown["state"], shown["version"], shown["problem"]) == ("ready", second, None)
    assert [one["version"] for one in http.get("/v1/datasets/people/versions").json()["data"]] == [
        second,
        first,
    ]
    assert [one["state"] for one in http.get("/v1/datasets/people/uploads").json()["data"]] == [
        "rejected",
        "ready",
        "ready",
    ]


def test_the_same_content_again_is_the_same_version(http: httpx.Client, store: Store, root: Path) -> None:
    first = upload(http, store, root)
    second = upload(http, store, root)
    assert first["id"] != second["id"]
    assert first["version"] == second["version"]
    other = upload(http, store, root, name="tenants")
    assert other["version"] == first["version"]
    shown = http.get(f"/v1/datasets/tenants/versions/{other['version']}").json()
    assert (shown["name"], shown["schema"]["name"]) == ("tenants", "tenants")
    assert len(http.get("/v1/datasets/tenants/versions").json()["data"]) == 1


def test_a_repeated_upload_with_a_key_is_the_same_upload(http: httpx.Client, root: Path) -> None:
    key = {"Idempotency-Key": "once"}
    first = send(http, headers=key)
    again = send(http, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert len(list((root / "uploads").iterdir())) == 1
    for other in (send(http, PEOPLE + "1,Bonn,1,1\n", headers=key), send(http, headers=key, seed=2)):
        assert "used before" in assert_problem(other, 422)["detail"]
    assert len(list((root / "uploads").iterdir())) == 1


def test_a_name_has_one_owner(http: httpx.Client, store: Store, app: Flask, root: Path) -> None:
    send(http)
    with store.writes.begin() as session:
        grace = make_key(session, "grace")
    with client_of(app, grace) as other:
        assert "somebody else" in assert_problem(send(other), 409)["detail"]
        assert other.get("/v1/datasets/people").json()["owner"] == "ada"
    assert "comes with the service" in assert_problem(send(http, name="iris"), 409)["detail"]
    assert len(list((root / "uploads").iterdir())) == 1


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_all_that_is_wrong_with_the_meta_is_said_at_once(http: httpx.Client, root: Path) -> None:
    answer = send(http, name="Tall People", task="regresion", catgorical=["city"], test={"last": 0})
    found = {item["pointer"]: item["message"] for item in assert_problem(answer, 422)["errors"]}
    assert set(found) == {"/meta/name", "/meta/task", "/meta/catgorical", "/meta/test/last"}
    assert "Did you mean `regression`?" in found["/meta/task"]
    assert "Did you mean `categorical`?" in found["/meta/catgorical"]
    assert list((root / "uploads").iterdir()) == []


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"features": ["age", "rent"], "categorical": None}, {"/meta/target"}),
        ({"weight": "rent"}, {"/meta/weight"}),
        ({"test": {"last": 1}, "split_column": "part"}, {"/meta/test"}),
        ({"target": ["rent", "income"], "task": "binary"}, {"/meta/target"}),
        ({"task": "multilabel"}, {"/meta/target"}),
        ({"class_names": ["low", "high"]}, {"/meta/class_names"}),
        ({"task": "binary", "class_names": ["a", "b", "c"]}, {"/meta/class_names"}),
        ({"features": ["age", "income"]}, {"/meta/categorical/0"}),
        ({"missing": {"rent": "mean", "city": "mean", "age": "old"}}, {"/meta/missing/rent",
         "/meta/missing/city", "/meta/missing/age"}),
        ({"missing": "average"}, {"/meta/missing"}),
        ({"csv": {"delimiter": ",", "decimal": ","}}, {"/meta/csv/decimal"}),
        ({"csv": {"delimiter": "::"}}, {"/meta/csv/delimiter"}),
        ({"test": {"last": 1, "count": 2}}, {"/meta/test"}),
        ({"test": {"fraction": 1}}, {"/meta/test/fraction"}),
        ({"seed": -1, "target": ["rent", "rent"]}, {"/meta/seed", "/meta/target/1"}),
        ({"name": None, "task": None}, {"/meta/name", "/meta/task"}),
    ],
)  # fmt: skip
def test_a_meta_that_contradicts_itself_is_refused(
    http: httpx.Client, changes: dict[str, Any], pointers: set[str]
) -> None:
    errors = assert_problem(send(http, **changes), 422)["errors"]
    assert {item["pointer"] for item in errors} == pointers
    assert all(item["message"] for item in errors)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("files", "data", "code", "pointer"),
    [
        ({"file": ("a.csv", b"a")}, {}, "missing_part", "/meta"),
        ({"other": ("a.csv", b"a")}, {"meta": "{}"}, "unknown_part", "/other"),
        ({"file": ("a.csv", b"a")}, {"meta": "{"}, "not_json", "/meta"),
        ({"file": ("a.csv", b"a")}, {"meta": "[]"}, "wrong_type", "/meta"),
        ({"file": ("a.csv", b"a")}, {"meta": '{"name": "a\\u0000"}'}, "bad_text", "/meta"),
        ({"x": ("a.csv", b"a")}, {"meta": "{}", "file": "a"}, "missing_part", "/file"),
    ],
)
def test_a_form_with_wrong_parts_is_refused(
    http: httpx.Client, root: Path, files: Any, data: Any, code: str, pointer: str
) -> None:
    answer = http.post("/v1/datasets", files=files, data=data)
    errors = assert_problem(answer, 422)["errors"]
    assert (code, pointer) in {(item["code"], item["pointer"]) for item in errors}
    assert list((root / "uploads").iterdir()) == []


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_body_that_is_no_form_is_refused(http: httpx.Client) -> None:
    assert_problem(http.post("/v1/datasets", json={"name": "a"}), 415)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(http.post("/v1/datasets", content=b"--y\r\nnonsense", headers=form), 400)
    cut = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    assert_problem(http.post("/v1/datasets", content=cut, headers=form), 400)
    bare = {"Content-Type": "multipart/form-data"}
    assert assert_problem(http.post("/v1/datasets", content=b"x", headers=bare), 400)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_the_meta_may_be_a_file_of_its_own(http: httpx.Client, root: Path) -> None:
    meta = json.dumps(make_meta()).encode()
    files = {
        "meta": ("meta.json", meta, "application/json"),
        "file": ("C:\\data\\people.csv", PEOPLE.encode()),
    }
    sent = http.post("/v1/datasets", files=files)
    assert sent.status_code == 202
    assert sent.json()["filename"] == "people.csv"
    assert [path.name for path in upload_folder(root, sent.json()["id"]).iterdir()] == ["file"]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_an_upload_that_is_too_large_is_refused_and_leaves_nothing(
    make_app: Any, key: str, root: Path
) -> None:
    with client_of(make_app(upload_limit_mb=1), key) as http:
        large = "a,b\n" + "1,2\n" * 300_000
        assert "1 MB" in assert_problem(send(http, large), 413)["detail"]
        chunked = http.post(
            "/v1/datasets",
            content=(piece for piece in [large.encode()] * 3),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert chunked.status_code in {400, 413}
    assert list((root / "uploads").iterdir()) == []


def test_an_unknown_upload_or_dataset_is_not_found(http: httpx.Client) -> None:
    send(http)
    for path in ("people/uploads/none", "nobody/uploads", "nobody/uploads/x", "nobody/versions"):
        assert_problem(http.get(f"/v1/datasets/{path}"), 404)
    assert http.get("/v1/datasets/iris/versions").json() == {"data": []}
    assert http.get("/v1/datasets/iris/uploads").json() == {"data": []}


def test_uploads_are_not_taken_for_datasets_of_the_catalogue(
    http: httpx.Client, store: Store, root: Path
) -> None:
    send(http)
    assert not read_next(store, root, lambda: None)


def test_an_upload_whose_reader_died_is_taken_again_and_given_up_in_the_end(
    http: httpx.Client, store: Store, root: Path
) -> None:
    location = send(http).headers["Location"]
    for attempt in (1, 2, 3):
        with store.writes.begin() as session:
            claim = uploads.take(session)
            assert claim is not None
            assert claim.attempt == attempt
            assert uploads.take(session) is None
            session.execute(update(Upload).values(touched_at=now_ms() - datasets.READER_LEASE_MS - 1))
    assert read_next_upload(store, root)
    (problem,) = http.get(location).json()["problems"]
    assert problem["code"] == "reading_failed"
    assert http.get("/v1/datasets/people").json()["state"] == "rejected"


def test_a_reader_that_lost_its_upload_writes_nothing(http: httpx.Client, store: Store, root: Path) -> None:
    location = send(http).headers["Location"]
    with store.writes.begin() as session:
        lost = uploads.take(session)
        session.execute(update(Upload).values(touched_at=now_ms() - datasets.READER_LEASE_MS - 1))
        taken = uploads.take(session)
    assert lost is not None
    assert taken is not None
    with store.writes.begin() as session:
        assert not uploads.reject(session, lost, [{"code": "x", "message": "x"}])
        uploads.give_back(session, lost)
        uploads.touch(session, lost)
    assert http.get(location).json()["state"] == "processing"
    with store.writes.begin() as session:
        assert uploads.take(session) is None
        assert uploads.reject(session, taken, [{"code": "x", "message": "x"}])
    assert http.get(location).json()["state"] == "rejected"


def test_a_nul_in_a_file_is_a_problem_and_no_end_of_the_worker(
    http: httpx.Client, store: Store, root: Path
) -> None:
    table = "a,k\n" + "1,u\n2,v\n" * 600 + "3,w\0\n"
    how: dict[str, Any] = {"categorical": None, "target": "k", "task": "multiclass"}
    ended = upload(http, store, root, table, **how)
    assert [(problem["code"], problem["line"]) for problem in ended["problems"]] == [("bad_text", 1202)]
    assert "\0" not in json.dumps(ended, ensure_ascii=False)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_reader_that_cannot_be_started_is_one_that_died(
    http: httpx.Client, store: Store, root: Path
) -> None:
    sent = send(http).json()
    # The order cannot be written, as on a full disk.
    (upload_folder(root, sent["id"]) / "order.json").mkdir()
    for _ in range(uploads.MOST_ATTEMPTS):
        assert read_next_upload(store, root)
    (problem,) = http.get(sent["links"]["self"]).json()["problems"]
    assert problem["code"] == "reading_failed"
    assert "could not be started: Is a directory" in problem["message"]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_reader_that_used_up_its_time_is_not_tried_again(
    http: httpx.Client, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(upload_child, "PATIENCE_SECONDS", 0.01)
    location = send(http).headers["Location"]
    assert read_next_upload(store, root)
    (problem,) = http.get(location).json()["problems"]
    assert problem["code"] == "reading_failed"
    assert "it was not done after" in problem["message"]


def test_what_a_child_says_beside_its_facts_is_passed_over() -> None:
    said = 'noise\n[1]\n{"no": 1}\n{"event": "ready"}\n{"event": "cut o'
    assert limited.told_by(said, "", 0).told == [{"event": "ready"}]


def test_a_child_can_be_stopped_from_outside(tmp_path: Path) -> None:
    order = tmp_path / "order"
    os.mkfifo(order)
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) == 1)
        return asked[-1]

    ended = limited.run_limited("worker.upload_child", [str(order)], patience_seconds=600, stop=stop)
    assert asked == [False, True]
    assert (ended.was_stopped, ended.timed_out, ended.status) == (True, False, -signal.SIGKILL)
    assert ended.how == "signal SIGKILL: it was told to stop"


def test_who_loses_a_race_with_one_key_changes_nothing(
    http: httpx.Client, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "once"}
    first = send(http, "nothing", headers=key)
    assert read_next_upload(store, root)
    look, looks = uploads._repeated, []

    def late(*arguments: Any) -> Any:
        looks.append(arguments)
        return None if len(looks) == 1 else look(*arguments)

    monkeypatch.setattr(uploads, "_repeated", late)
    again = send(http, "nothing", headers=key)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert http.get("/v1/datasets/people").json()["state"] == "rejected"


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_full_disk_is_said_and_nothing_is_kept(
    http: httpx.Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("api.uploads._FileOnDisk.write", full)
    assert "no room" in assert_problem(send(http), 507)["detail"]
    assert list((root / "uploads").iterdir()) == []


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_leftovers_that_somebody_else_removes_just_now_are_passed_over(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, is_dir = root / "uploads" / new_id(), Path.is_dir
    folder.mkdir(parents=True)

    def removed_then(path: Path) -> bool:
        was_one = is_dir(path)
        if path == folder:
            folder.rmdir()
        return was_one

    monkeypatch.setattr(Path, "is_dir", removed_then)
    assert not remove_leftovers(store, root)
    assert not folder.exists()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_files_of_an_upload_that_was_never_complete_are_removed(
    http: httpx.Client, store: Store, root: Path
) -> None:
    waiting = upload_folder(root, send(http).json()["id"])
    old, new, prediction = (root / "uploads" / name for name in (new_id(), new_id(), "prediction-1"))
    for folder in (old, new, prediction):
        folder.mkdir()
        (folder / "part-1").touch()
    for folder in (waiting, old, prediction):
        os.utime(folder, (0, 0))
    assert not remove_leftovers(store, root)
    assert set((root / "uploads").iterdir()) == {waiting, new, prediction}


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_arrays_and_pairs_of_idx_files_are_uploaded_too(http: httpx.Client, store: Store, root: Path) -> None:
    buffer = io.BytesIO()
    x = np.arange(160, dtype="uint8").reshape(10, 4, 4)
    y = np.array([0, 1] * 5)
    np.savez_compressed(buffer, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    arrays = {"target": None, "categorical": None, "task": "binary"}
    ready = upload(http, store, root, buffer.getvalue(), filename="a.npz", **arrays)
    assert ready["state"] == "ready", ready["problems"]
    assert stored(root, ready["version"], "train/x").dtype == np.uint8
    assert [warning["code"] for warning in ready["warnings"]][-1] == "repeated_rows"
    pictures = b"\0\0\x08\x03" + np.array([10, 4, 4], ">u4").tobytes() + x.tobytes()
    labels = b"\0\0\x08\x01" + np.array([10], ">u4").tobytes() + y.astype("uint8").tobytes()
    ready = upload(http, store, root, pictures, filename="train-images", targets=labels, name="idx", **arrays)
    assert ready["state"] == "ready", ready["problems"]
    schema = http.get("/v1/datasets/idx").json()["schema"]
    assert (schema["features"]["shape"], schema["rows"]["test"]) == ([4, 4], 2)


def test_a_splits_own_validation_rows_are_a_specs_default(
    http: httpx.Client, store: Store, root: Path
) -> None:
    parts = ["train"] * 3 + ["validation"] * 2 + ["test"]
    lines = PEOPLE.splitlines()
    table = "\n".join([lines[0] + ",part", *(f"{a},{b}" for a, b in zip(lines[1:], parts, strict=True))])
    ready = upload(http, store, root, table, split_column="part")
    assert ready["state"] == "ready", ready["problems"]
    assert http.get("/v1/datasets/people").json()["schema"]["rows"] == {
        "train": 5,
        "test": 1,
        "validation": 2,
    }

    def validation(**split: Any) -> Any:
        spec = make_iris(dataset="people", compile__loss="mse", compile__metrics=[])
        spec["model"] = {"layers": [{"type": "Dense", "units": 1}]}
        del spec["split"]
        answer = http.post("/v1/jobs", params={"dry_run": "true"}, json=spec | split)
        assert answer.status_code == 200, answer.text
        return answer.json()["spec"]["split"]["validation"]

    assert validation() == {"last": 2}
    assert validation(split={}) == {"last": 2}
    assert validation(split={"validation": None}) is None
    assert validation(split={"validation": {"count": 1}})["count"] == 1


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_catalogue_dataset_that_is_read_has_statistics(
    http: httpx.Client, store: Store, root: Path
) -> None:
    with store.writes.begin() as session:
        datasets.want(session, "iris")
    read_next(store, root, lambda: None)
    statistics = http.get("/v1/datasets/iris").json()["statistics"]
    assert statistics["class_counts"] == {"setosa": 40, "versicolor": 40, "virginica": 40}
    assert statistics["columns"][0]["name"] == "sepal length (cm)"
    assert len(statistics["samples"]) == 5

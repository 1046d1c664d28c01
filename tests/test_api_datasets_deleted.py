"""Datasets that are deleted: what stands against it, what jobs keep, which files go, and the free name."""

from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import insert, select, update

from services import datasets, jobs, removals
from services.artifacts import dataset_folder, job_folder
from services.keys import make_key
from services.meta import UploadMeta
from services.models import Checkpoint, DatasetVersion, Job, Look
from services.settings import Settings
from services.states import JobState, Reason
from services.store import Store
from tests.builders import make_owner, make_spec
from tests.conftest import client_of, wait_for_a_lock
from tests.test_api_contract import assert_problem
from tests.uploading import PEOPLE, send, upload
from worker import reading
from worker.reading import read_next_upload, remove_deleted
from worker.tables.findings import Findings
from worker.tables.reading import SentFile, read_upload
from worker.upload_child import Accepted
from worker.versions import store_version, verify_version

OTHER = PEOPLE.replace("700", "710")
SPEC: dict[str, Any] = {
    "name": "rents",
    "dataset": "people",
    "split": {"validation": None},
    "model": {"layers": [{"type": "Dense", "units": 1}]},
    "compile": {"loss": "mse", "optimizer": "Adam"},
    "fit": {"epochs": 2},
    "evaluate": [],
}


@pytest.fixture
def root(settings: Settings) -> Path:
    """The artifact root."""
    return settings.artifact_root


@pytest.fixture(autouse=True)
def _read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "read_files", read_here)


def read_here(root: Path, folder: Path, meta: UploadMeta, names: dict[str, str]) -> Accepted:
    """What the child does, without a second's start."""
    made = read_upload(meta, {"file": SentFile(folder / "file", names["file"])}, Findings())
    statistics = made.statistics.model_dump(mode="json")
    return Accepted(store_version(root, made.schema, made.arrays), made.schema, statistics, [])


def submitted(http: httpx.Client, **changes: Any) -> str:
    answer = http.post("/v1/jobs", json=SPEC | changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def finished(http: httpx.Client, store: Store, **changes: Any) -> str:
    """A job with a model in SQL, and none on disk."""
    job_id = submitted(http, **changes)
    values = {"state": JobState.SUCCEEDED, "reason": Reason.FINISHED, "model_sha256": "5" * 64}
    with store.writes.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))
    return job_id


def delete(http: httpx.Client, path: str = "people") -> None:
    assert http.delete(f"/v1/datasets/{path}").status_code == 204


def refusal(http: httpx.Client, path: str = "people", status: int = 409) -> str:
    return str(assert_problem(http.delete(f"/v1/datasets/{path}"), status)["detail"])


def test_a_deleted_dataset_is_gone_with_its_files(http: httpx.Client, store: Store, root: Path) -> None:
    version = upload(http, store, root)["version"]
    delete(http)
    for path in ("", "/versions", f"/versions/{version}", "/uploads", "/ledger"):
        assert http.get(f"/v1/datasets/people{path}").status_code == 404
    assert "people" not in [one["name"] for one in http.get("/v1/datasets").json()["data"]]
    assert list((root / "datasets").iterdir()) == []
    assert assert_problem(http.post("/v1/jobs", json=SPEC), 422)["errors"][0]["code"] == "unknown_dataset"
    assert "people" in refusal(http, status=404)
    with store.reads.begin() as session:
        assert session.get(DatasetVersion, version) is None


def test_jobs_that_have_not_ended_stand_against_it_and_are_named(
    http: httpx.Client, store: Store, root: Path
) -> None:
    upload(http, store, root)
    waiting = [submitted(http) for _ in range(2)]
    assert refusal(http) == (
        f"Dataset people is in use by jobs {waiting[0]}, {waiting[1]}. "
        "Cancel them, or wait for the end, then delete it."
    )
    http.post(f"/v1/jobs/{waiting[0]}/cancel")
    assert f"by job {waiting[1]}. Cancel it" in refusal(http)
    http.post(f"/v1/jobs/{waiting[1]}/cancel")
    delete(http)


def test_a_split_that_is_read_for_somebody_stands_against_it(
    http: httpx.Client, store: Store, root: Path
) -> None:
    upload(http, store, root)
    job_id = finished(http, store)
    http.post(f"/v1/jobs/{job_id}/evaluations", json={"split": "train"})
    assert job_id in refusal(http)


def test_a_file_that_is_being_read_stands_against_it(http: httpx.Client) -> None:
    send(http)
    assert "is being read" in refusal(http)


def test_only_its_owner_deletes_it_and_nobody_what_comes_with_the_service(
    http: httpx.Client, store: Store, root: Path, app: Flask
) -> None:
    upload(http, store, root)
    with store.writes.begin() as session:
        other = make_key(session, "bob")
    with client_of(app, other) as bob:
        assert "somebody else" in refusal(bob)
    assert "comes with the service" in refusal(http, "iris")
    assert http.get("/v1/datasets/people").status_code == 200


def test_jobs_that_have_ended_keep_their_pages(http: httpx.Client, store: Store, root: Path) -> None:
    version = upload(http, store, root)["version"]
    job_id = finished(http, store)
    delete(http)
    assert http.get(f"/v1/jobs/{job_id}").json()["dataset"] == {"name": "people", "version": version}
    for part in ("history", "summary", "spec", "attempts", "logs", "evaluations", "events"):
        assert http.get(f"/v1/jobs/{job_id}/{part}").status_code == 200, part
    assert http.get("/v1/jobs?dataset=people").json()["data"][0]["id"] == job_id


def test_what_needs_the_data_says_that_it_was_deleted(http: httpx.Client, store: Store, root: Path) -> None:
    version = upload(http, store, root)["version"]
    job_id = finished(http, store)
    checkpoint = job_folder(root, job_id) / "checkpoints" / "e1-f1.npz"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    kept = {"path": "checkpoints/e1-f1.npz", "bytes": 0, "sha256": "0" * 64, "fence": 1}
    with store.writes.begin() as session:
        session.execute(insert(Checkpoint).values(job_id=job_id, epoch=2, **kept))
    delete(http)
    told = f"version {version[:8]} of dataset people was deleted"
    look = {"split": "test", "reason": "report"}
    for verb, body in (
        ("evaluations", look),
        ("predictions", look),
        ("predictions", {"split": "train"}),
        ("continue", {"epochs": 1}),
    ):
        assert told in assert_problem(http.post(f"/v1/jobs/{job_id}/{verb}", json=body), 409)["detail"], verb
    again = assert_problem(http.post(f"/v1/jobs/{job_id}/clone", json={"set": {}}), 422)
    assert "no dataset 'people'" in again["errors"][0]["message"]
    with store.reads.begin() as session:
        assert session.scalars(select(Look)).all() == []


def test_the_name_is_free_and_the_same_content_comes_back(
    http: httpx.Client, store: Store, root: Path, app: Flask
) -> None:
    first = upload(http, store, root)["version"]
    job_id = finished(http, store)
    delete(http)
    with store.writes.begin() as session:
        other = make_key(session, "bob")
    with client_of(app, other) as bob:
        second = upload(bob, store, root, OTHER)["version"]
        shown = bob.get("/v1/datasets/people").json()
        assert (shown["version"], shown["owner"], shown["state"]) == (second, "bob", "ready")
        assert len(bob.get("/v1/datasets/people/versions").json()["data"]) == 1
        delete(bob)
        assert upload(bob, store, root, name="again")["version"] == first
    verify_version(root, first)
    assert http.get("/v1/datasets/again").json()["statistics"] is not None
    asked = http.post(f"/v1/jobs/{job_id}/evaluations", json={"split": "train"})
    assert asked.status_code == 202, asked.text


def test_a_version_that_another_dataset_has_keeps_its_files(
    http: httpx.Client, store: Store, root: Path
) -> None:
    version = upload(http, store, root)["version"]
    assert upload(http, store, root, name="twins")["version"] == version
    delete(http)
    verify_version(root, version)
    assert http.get(f"/v1/datasets/twins/versions/{version}").json()["statistics"] is not None
    assert upload(http, store, root, OTHER)["version"] != version
    assert len(http.get("/v1/datasets/people/versions").json()["data"]) == 1
    delete(http, "twins")
    assert not dataset_folder(root, version).exists()


def test_one_version_of_several_can_be_deleted(http: httpx.Client, store: Store, root: Path) -> None:
    first = upload(http, store, root, description="the first")["version"]
    second = upload(http, store, root, OTHER)["version"]
    job_id = submitted(http, dataset=f"people@{second}")
    assert f"Version {second[:8]} of dataset people is in use by job {job_id}." in refusal(
        http, f"people/versions/{second}"
    )
    http.post(f"/v1/jobs/{job_id}/cancel")
    delete(http, f"people/versions/{second[:8]}")
    shown = http.get("/v1/datasets/people").json()
    assert (shown["version"], shown["description"]) == (first, "the first")
    assert not dataset_folder(root, second).exists()
    assert "no other version" in refusal(http, f"people/versions/{first}")
    assert refusal(http, f"people/versions/{second}", 404)


def test_content_that_is_deleted_while_it_is_read_anew_is_read_once_more(
    http: httpx.Client, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = upload(http, store, root)["version"]
    send(http, name="twins")

    def read_then_delete(*given: Any) -> Accepted:
        outcome = read_here(*given)
        monkeypatch.setattr(reading, "read_files", read_here)
        delete(http)
        return outcome

    monkeypatch.setattr(reading, "read_files", read_then_delete)
    while read_next_upload(store, root):
        pass
    assert http.get("/v1/datasets/twins").json()["version"] == version
    verify_version(root, version)


def test_files_that_were_left_are_removed_by_and_by(http: httpx.Client, store: Store, root: Path) -> None:
    version = upload(http, store, root)["version"]
    with store.writes.begin() as session:
        assert removals.delete(session, "people", make_owner(session).id) == [version]
    remove_deleted(store, root)
    assert list((root / "datasets").iterdir()) == []


def test_a_submit_that_waits_for_the_deletion_is_refused(
    http: httpx.Client, store: Store, root: Path
) -> None:
    upload(http, store, root)
    refused = list[BaseException]()
    with store.reads.begin() as session:
        known = datasets.find(session, "people")

    def submit() -> None:
        try:
            with store.writes.begin() as session:
                jobs.submit(session, make_owner(session).id, make_spec(dataset="people"), known, None)
        except datasets.DataDeleted as error:
            refused.append(error)

    with store.writes.begin() as session:
        owner = make_owner(session).id
    with store.writes.begin() as session:
        removals.delete(session, "people", owner)
        submitting = Thread(target=submit)
        submitting.start()
        wait_for_a_lock(store, submitting)
    submitting.join(30)
    assert len(refused) == 1

"""Datasets, the queue and the workers over HTTP."""

import httpx

from services.store import Store
from tests.builders import make_claim, make_dataset, make_iris, make_job
from tests.test_api_contract import assert_problem


def test_datasets_are_listed_and_shown(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        version = make_dataset(session)
    listed = {found["name"]: found for found in http.get("/v1/datasets").json()["data"]}
    assert {"fashion_mnist", "mnist", "california_housing", "iris", "digits", "wine"} <= set(listed)
    assert (listed["iris"]["state"], listed["wine"]["state"]) == ("ready", "available")
    shown = http.get("/v1/datasets/iris").json()
    assert shown == listed["iris"]
    assert (shown["version"], shown["schema"]["rows"]) == (
        version,
        {"train": 120, "test": 30, "validation": 0},
    )
    assert http.get(f"/v1/datasets/iris/versions/{version[:8]}").json() == shown
    assert http.get("/v1/datasets/wine/ledger").json() == {"data": []}


def test_a_spec_may_name_a_version(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        version = make_dataset(session)
    job = http.post("/v1/jobs", json=make_iris(dataset=f"iris@{version[:10]}"))
    assert job.status_code == 201
    assert job.json()["dataset"] == {"name": "iris", "version": version}
    unknown = http.post("/v1/jobs", json=make_iris(dataset="iris@ffffffff"))
    assert assert_problem(unknown, 422)["errors"][0]["pointer"] == "/dataset"


def test_the_queue_and_the_workers_are_shown(http: httpx.Client, store: Store) -> None:
    empty = http.get("/v1/queue").json()
    assert (empty["running"], empty["queued"], empty["jobs"], empty["why"]) == (0, 0, [], None)
    assert http.get("/v1/workers").json() == {"data": []}
    with store.writes.begin() as session:
        running = make_claim(session).lease.job_id
        queued = make_job(session)
    found = http.get("/v1/queue").json()
    assert (found["running"], found["queued"], found["slots"]) == (1, 1, 0)
    assert [job["id"] for job in found["jobs"]] == [running, queued]
    assert found["why"].startswith("No train worker is there")

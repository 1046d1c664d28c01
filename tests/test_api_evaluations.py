"""Evaluations over HTTP, and the reasons that looks at sealed splits need."""

import json

import httpx
import pytest
from sqlalchemy import select

from services.models import Look
from services.states import Split
from services.store import Store
from tests.builders import make_job, make_success
from tests.test_api_contract import assert_problem


def test_a_look_needs_a_reason(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    for body in ({"split": "test"}, {"split": "test", "reason": "  "}, {"split": "test", "reason": None}):
        (item,) = assert_problem(http.post(f"/v1/jobs/{job_id}/evaluations", json=body), 422)["errors"]
        assert item["pointer"] == "/reason"
        assert item["message"].startswith("The test split is sealed: each look")
        assert '"reason": "final figure for the report"' in item["message"]
    with store.reads.begin() as session:
        assert session.scalars(select(Look)).all() == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/split"),
        ({"split": "tests"}, "/split"),
        ({"split": "train", "why": "x"}, "/why"),
        ({"split": "train", "reason": 3}, "/reason"),
        ({"split": "train", "reason": "x" * 501}, "/reason"),
        ([], ""),
    ],
)
def test_a_request_for_an_evaluation_with_a_mistake_is_refused(
    http: httpx.Client, body: object, pointer: str
) -> None:
    answer = http.post("/v1/jobs/some/evaluations", content=json.dumps(body))
    problem = assert_problem(answer, 422)
    assert problem["errors"][0]["pointer"] == pointer


def test_an_evaluation_is_accepted_and_can_be_looked_at(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    asked = http.post(f"/v1/jobs/{job_id}/evaluations", json={"split": Split.TEST, "reason": "report"})
    assert asked.status_code == 202
    evaluation = asked.json()
    assert (evaluation["state"], evaluation["reason"], evaluation["looks_before"]) == ("queued", "report", 0)
    assert http.get(asked.headers["Location"]).json() == evaluation
    again = http.post(f"/v1/jobs/{job_id}/evaluations", json={"split": "test", "reason": "again"}).json()
    assert again["looks_before"] == 1
    listed = http.get(f"/v1/jobs/{job_id}/evaluations").json()["data"]
    assert {one["id"] for one in listed} == {evaluation["id"], again["id"]}
    ledger = http.get("/v1/datasets/iris/ledger").json()["data"]
    assert sorted((look["who"], look["why"], look["looks_before"]) for look in ledger) == [
        ("ada", "again", 1),
        ("ada", "report", 0),
    ]


def test_an_evaluation_of_a_job_without_model_is_refused(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    answer = http.post(f"/v1/jobs/{job_id}/evaluations", json={"split": "train"})
    assert "only a succeeded job" in assert_problem(answer, 409)["detail"]

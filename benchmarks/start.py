"""How soon a small job starts on a warm service, and what the processes weigh: `python -m benchmarks.start`.

Starts a service of its own in a temporary folder, submits `examples/iris.yaml` one after the other, and reads
from each job the seconds from submit to claim, to the end of the first epoch, and to the end.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from trainshed.client import Client
from trainshed.ports import free_port

CHECKOUT = Path(__file__).parents[1]
READY_SECONDS = 300


def main() -> None:
    """Print a table, and JSON after it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start")
    parser.add_argument("--jobs", type=int, default=15)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder) / "home", free_port()
        command = [sys.executable, "-m", "trainshed", "up", "--home", str(home), "--port", str(port)]
        command += ["--mlflow-port", str(free_port())]
        with (Path(folder) / "up.log").open("wb") as log:
            service = subprocess.Popen(command, stdout=log, stderr=log, cwd=CHECKOUT)
        try:
            client = ready_client(home, port)
            measured = [_run(client, number) for number in range(jobs)]
            report = {"machine": machine(), "jobs": _summary(measured), "memory_mb": _memory(service.pid)}
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait()
    _print(report)


def ready_client(home: Path, port: int) -> Client:
    """Wait until jobs could start and iris is there."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if (home / "key").exists():
            client = Client(f"http://127.0.0.1:{port}", (home / "key").read_text().strip())
            if client.missing() is None and client.datasets.get("iris")["state"] == "ready":
                return client
        time.sleep(0.5)
    raise SystemExit(f"the service was not ready within {READY_SECONDS} s")


def _run(client: Client, number: int) -> dict[str, float]:
    job = client.submit(CHECKOUT / "examples" / "iris.yaml", overrides={"seed": number}).wait()
    timings = job.data["timings"]
    return {
        "submit to claim": timings["queue_seconds"] or 0.0,
        "submit to end of first epoch": timings["first_epoch_seconds"] or 0.0,
    }


def _summary(measured: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median": statistics.median(one[name] for one in measured),
            "max": max(one[name] for one in measured),
        }
        for name in measured[0]
    }


def _memory(pid: int) -> dict[str, float]:
    """Proportional set size of each process below `up`, in MB; a page that n processes share counts 1/n."""
    sizes: dict[str, float] = {}
    for child in _family(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        name = _name(words)
        sizes[name] = sizes.get(name, 0.0) + pss_mb(child)
    return dict(sorted(sizes.items()))


def pss_mb(pid: int) -> float:
    """Proportional set size of one process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _name(command_line: str) -> str:
    names = {
        "trainshed.warden": "up",
        "trainshed up": "up",
        "maxmemory-policy": "valkey",
        "-m api": "api",
        "worker train": "train worker",
        "worker housekeeping": "housekeeping worker",
        "forkserver": "forkserver (TensorFlow)",
        "mlflow": "mlflow",
        "uvicorn": "mlflow",
    }
    return next((name for needle, name in names.items() if needle in command_line), "other")


def _family(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and (path / "stat").exists():
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    """What the figures depend on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _print(report: dict[str, Any]) -> None:
    print(f"{'seconds':32} {'median':>8} {'max':>8}")
    for name, values in report["jobs"].items():
        print(f"{name:32} {values['median']:8.2f} {values['max']:8.2f}")
    print(f"\n{'process':32} {'MB':>8}")
    for name, size in report["memory_mb"].items():
        print(f"{name:32} {size:8.0f}")
    print("\n" + json.dumps(report))


if __name__ == "__main__":
    main()

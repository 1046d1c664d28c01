"""A service to measure: `trainshed up` in a temporary folder, ended afterwards."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainshed.client import Client
from trainshed.job import Job
from trainshed.ports import free_port

CHECKOUT = Path(__file__).parents[1]
ORIGINALS = Path(__file__).parent / ".data"
"""Files of datasets, as the service keeps them: what was fetched once is not fetched for each service."""
READY_SECONDS = 300
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Service:
    """A running service."""

    client: Client
    home: Path
    pid: int
    began: float
    """time.perf_counter() when its first process was started."""
    port: int
    mlflow_port: int

    @property
    def url(self) -> str:
        """The API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def mlflow_url(self) -> str:
        """The tracking server."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request without the client needs."""
        return {"Authorization": f"Bearer {(self.home / 'key').read_text().strip()}"}

    @property
    def artifacts(self) -> Path:
        """The folder of datasets and jobs."""
        return self.home / "artifacts"

    def run(self, spec: Path, overrides: dict[str, Any]) -> Job:
        """Submit a job and wait until it has ended well."""
        job = self.client.submit(spec, overrides=overrides).wait()
        if job.state != "succeeded":
            raise SystemExit(f"{job.name} {job.state} ({job.reason}): {job.data['detail']}")
        return job

    def keep_originals(self) -> None:
        """Spare the next service the fetching."""
        shutil.copytree(self.artifacts / "sources", ORIGINALS, dirs_exist_ok=True)


@contextmanager
def running_service(*, is_ready: bool = True) -> Iterator[Service]:
    """`is_ready`: jobs can start and iris is there; otherwise the API answers, and no more is known."""
    with tempfile.TemporaryDirectory() as folder:
        home, port, mlflow_port = Path(folder) / "home", free_port(), free_port()
        if ORIGINALS.exists():
            shutil.copytree(ORIGINALS, home / "artifacts" / "sources")
        command = [sys.executable, "-m", "trainshed", "up", "--home", str(home), "--port", str(port)]
        command += ["--mlflow-port", str(mlflow_port)]
        began = time.perf_counter()
        with (Path(folder) / "up.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=CHECKOUT)
        try:
            client = _client(home, port, process)
            service = Service(client, home, process.pid, began, port, mlflow_port)
            if is_ready:
                _until(lambda: client.missing() is None, "jobs could start")
                _until(lambda: client.datasets.get("iris")["state"] == "ready", "iris was there")
            yield service
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _client(home: Path, port: int, process: subprocess.Popen[bytes]) -> Client:
    # `up` writes the address when the API has been started.
    _until(lambda: (home / "address").exists() or process.poll() is not None, "`up` had an address")
    client = Client(f"http://127.0.0.1:{port}", (home / "key").read_text().strip())
    _until(lambda: client.missing() != "the API", "the API answered")
    return client


def wait_until_copied(client: Client, jobs: list[str]) -> None:
    """Return when MLflow holds everything of these jobs."""
    for job in jobs:
        _until(lambda job=job: client.job(job).data["mlflow"]["synced"], f"MLflow had job {job}")


def _until(look: Any, what: str) -> None:
    give_up_at = time.monotonic() + READY_SECONDS
    while not look():
        if time.monotonic() > give_up_at:
            raise SystemExit(f"not within {READY_SECONDS} s: {what}")
        time.sleep(LOOK_SECONDS)

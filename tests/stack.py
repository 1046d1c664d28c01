"""The real service for end-to-end tests: `trainshed up` as a process, and what it started."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select

from services.models import Epoch, Job
from services.store import Store, open_store
from trainshed.children import Command
from trainshed.client import Client
from trainshed.errors import Unreachable
from trainshed.home import Home
from trainshed.job import Job as JobHandle
from trainshed.ports import free_port
from trainshed.processes import Process
from trainshed.processes import process as process_of
from trainshed.roster import Options, Roster

CHECKOUT = Path(__file__).parents[1]
READY_SECONDS = 180
STOP_SECONDS = 15.0
# What a child's command line, or its program's path, holds.
COMMANDS = {
    "valkey": "valkey-server",
    "mlflow": "mlflow server",
    "api": "-m api",
    "train": "worker train",
    "housekeeping": "worker housekeeping",
    "forkserver": "multiprocessing.forkserver",
}
T = TypeVar("T")


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """What `look` answers as soon as it answers; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := look():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Service:
    """A running service, seen from outside and from its database."""

    home: Path
    port: int
    mlflow_port: int
    database_url: str
    client: Client = field(init=False)

    def connect(self) -> None:
        """Wait until a job could start."""
        until((self.home / "key").exists, READY_SECONDS, "the key is there")
        self.client = Client(f"http://127.0.0.1:{self.port}", (self.home / "key").read_text().strip())
        until(lambda: self.client.missing() is None, READY_SECONDS, "the service is ready")

    @property
    def mlflow_url(self) -> str:
        """The tracking server."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    def store(self) -> Store:
        """The stack's own database."""
        return open_store(self.database_url)

    def sql_history(self, job_id: str) -> list[dict[str, Any]]:
        """The history's rows as SQL has them."""
        store = self.store()
        with store.reads.begin() as session:
            rows = session.scalars(select(Epoch).where(Epoch.job_id == job_id).order_by(Epoch.epoch))
            return [{"epoch": row.epoch, **row.metrics, "ended_at": row.ended_at} for row in rows]

    def mlflow_run_id(self, job_id: str) -> str:
        """The run that the exporter made."""
        with self.store().reads.begin() as session:
            return str(session.scalar(select(Job.mlflow_run_id).where(Job.id == job_id)))

    def submit(self, spec: dict[str, Any]) -> JobHandle:
        """Submit through HTTP."""
        return self.client.submit(spec)

    def finish(self, job: JobHandle, seconds: float = 240) -> JobHandle:
        """Wait until the job ended and MLflow has all of it."""

        def is_done() -> bool:
            try:
                job.refresh()
            except Unreachable:
                # The API may be the one that was killed.
                return False
            return job.has_ended and job.data["mlflow"]["synced"]

        until(is_done, seconds, f"job {job.id} is finished and synced")
        return job


@dataclass
class Stack(Service):
    """A running `trainshed up`."""

    process: subprocess.Popen[bytes]

    def pids(self, kind: str) -> list[int]:
        """Processes of one kind, oldest first."""
        return [one.pid for one in self.family() if COMMANDS[kind] in _describe(one.pid)]

    def family(self) -> list[Process]:
        """`up` and everything below it, trainers included."""
        return family_of(self.process.pid)

    def kill(self, kind: str) -> None:
        """SIGKILL to the oldest process of a kind."""
        os.kill(self.pids(kind)[0], signal.SIGKILL)

    def stop(self) -> float:
        """SIGTERM; the seconds it took until `up` had ended."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS + 30)
        return time.monotonic() - started


@contextmanager
def running_stack(home: Path, *options: str) -> Iterator[Stack]:
    """`trainshed up` on free ports; ended, and seen to leave nothing behind."""
    port, mlflow_port = free_port(), free_port()
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "trainshed", "up", "--home", str(home)]
    command += ["--port", str(port), "--mlflow-port", str(mlflow_port), *options]
    with (home.parent / f"{home.name}-up-{port}.log").open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=home.parent, start_new_session=True
        )
    stack = Stack(home, port, mlflow_port, f"sqlite:///{home / 'trainshed.db'}", process)
    try:
        stack.connect()
        yield stack
    finally:
        family = family_of(process.pid)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert still_there(family) == []


@contextmanager
def running_service(home: Path, database_url: str) -> Iterator[Service]:
    """The same processes as `up` starts, on another database; nobody restarts them."""
    options = Options(home=home, port=free_port(), mlflow_port=free_port())
    prepared = Home(home)
    prepared.prepare()
    roster = Roster(options, prepared, CHECKOUT, free_port())
    service = Service(home, options.port, options.mlflow_port, database_url)
    started: list[subprocess.Popen[bytes]] = []

    def start(command: Command) -> subprocess.Popen[bytes]:
        environment = command.environment | {"TRAINSHED_DATABASE_URL": database_url}
        with (home.parent / f"{command.name}.log").open("wb") as out:
            process = subprocess.Popen(
                command.arguments, env=environment, cwd=CHECKOUT, stdout=out, stderr=subprocess.STDOUT
            )
        started.append(process)
        return process

    try:
        assert start(roster.migrations()).wait(120) == 0
        assert start(roster.key()).wait(120) == 0
        for command in (
            roster.valkey(),
            roster.mlflow(),
            roster.api(),
            roster.train(),
            roster.housekeeping(),
        ):
            start(command)
        service.connect()
        yield service
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(60)


def family_of(pid: int) -> list[Process]:
    """A process and everything below it."""
    found, newest = [pid], [pid]
    while newest := _children(newest):
        found += newest
    return [process_of(one) for one in found]


def still_there(family: list[Process], seconds: float = 5) -> list[str]:
    """Command lines of those that are still there some seconds after the end."""
    deadline = time.monotonic() + seconds
    while any(one.is_alive for one in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [_command_line(one.pid) for one in family if one.is_alive]


def _command_line(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def _describe(pid: int) -> str:
    """Command line and program: Valkey writes a title of its own over its arguments."""
    try:
        program = str(Path(f"/proc/{pid}/exe").readlink())
    except (FileNotFoundError, PermissionError):
        program = ""
    return f"{_command_line(pid)} {program}"


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def trainer_pids(stack: Stack) -> list[int]:
    """Trainers at work: children of the train worker's forkserver."""
    forkservers = [pid for pid in _children(stack.pids("train")) if "forkserver" in _command_line(pid)]
    return _children(forkservers)


def _children(parents: list[int]) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        stat = _read(int(path.name), "stat") if path.name.isdecimal() else b""
        match = re.match(rb"\d+ \(.*\) \S (\d+) ", stat)
        if match and int(match[1]) in parents:
            found.append(int(path.name))
    return found

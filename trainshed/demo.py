"""`trainshed demo`: the whole way of one job, on a stack of its own."""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from trainshed import tables
from trainshed.checkout import check_python, find_checkout, package_parent
from trainshed.client import Client
from trainshed.errors import StackError
from trainshed.follow import follow
from trainshed.home import Home
from trainshed.job import Job
from trainshed.ports import free_port
from trainshed.settings import inherited

SPEC = Path("examples/fashion_mnist.yaml")
EXPECTED = (0.86, 0.91)  # val_accuracy after 30 epochs; the reference states 0.8894
PICTURE = Path("learning-curves.png")
REASON = "the demo: how good is the finished model on images that nothing was chosen by?"
READY_SECONDS = 300
STOP_SECONDS = 20  # `up` promises 15
MLFLOW_SECONDS = 60


def run(console: Console, *, home: Path | None = None, checkout: Path | None = None) -> int:
    """Starts the stack, trains, shows, stops. Returns the exit code. Raises StackError."""
    code = find_checkout(checkout)
    check_python(code)
    place = Home((home or code / ".demo").absolute())
    console.print(f"Starting the service in {place.root} (its log: {place.log})", soft_wrap=True)
    with _stack(console, place, code), _client(place) as client:
        return show_job(console, client, code / SPEC, picture=PICTURE)


def show_job(console: Console, client: Client, spec: Path, *, picture: Path) -> int:
    """Submits a spec and shows everything that comes of it. Returns the exit code."""
    console.print(f"Submitting {spec.name} to {client.url}", soft_wrap=True)
    job = client.submit(spec)
    follow(job.watch(), console)
    _show_sources(console, client, job)
    if job.state != "succeeded":
        console.print(
            Text(f"The job {job.state} ({job.reason}): {job.data['detail']}", "red"), soft_wrap=True
        )
        return 1
    _show_history(console, job)
    evaluation = job.evaluate("test", reason=REASON)
    _title(console, "Evaluation on the test split (a look, kept in the ledger)")
    console.print(tables.evaluation(evaluation))
    _show_places(console, job, job.learning_curves(picture.absolute()))
    return 0 if evaluation["state"] == "succeeded" and _is_as_expected(console, job) else 1


def _show_sources(console: Console, client: Client, job: Job) -> None:
    """Where the data came from, and each source that did not have it."""
    for source in client.datasets.get(job.data["dataset"]["name"])["sources"]:
        console.print(Text(f"data: {source['name']}: {source['why'] or 'has it'}", "dim"), soft_wrap=True)


def _show_history(console: Console, job: Job) -> None:
    _title(console, "The last epochs")
    console.print(tables.history(job.history_json(), last=5))
    took = tables.seconds(job.data["timings"]["train_seconds"])
    console.print(f"{job.data['params_count']:,} parameters, trained in {took} on {job.data['device']}")


def _show_places(console: Console, job: Job, picture: Path) -> None:
    _title(console, "Where everything is")
    link = _mlflow(job)
    told = "" if job.data["mlflow"]["synced"] else " (not complete yet)"
    for name, where in (
        ("learning curves", str(picture)),
        ("job", job.id),
        ("MLflow run", f"{link}{told}"),
    ):
        console.print(Text(f"  {name:<16} {where}"), soft_wrap=True)


def _title(console: Console, text: str) -> None:
    console.print(Text(f"\n{text}", "bold"))


def _mlflow(job: Job) -> str:
    give_up_at = time.monotonic() + MLFLOW_SECONDS
    while not job.data["mlflow"]["synced"] and time.monotonic() < give_up_at:
        time.sleep(0.5)
        job.refresh()
    return job.data["mlflow"]["url"] or "none"


def _is_as_expected(console: Console, job: Job) -> bool:
    low, high = EXPECTED
    reached = job.metrics.get("val_accuracy", 0.0)
    if low <= reached <= high:
        console.print(Text(f"Validation accuracy {reached:.4f}: as expected.", "green"))
        return True
    console.print(Text(f"Validation accuracy {reached:.4f} is not between {low} and {high}.", "red"))
    return False


@contextmanager
def _stack(console: Console, home: Home, checkout: Path) -> Iterator[None]:
    home.prepare()
    arguments = [
        *(sys.executable, "-m", "trainshed", "up", "--while-stdin-open"),
        *("--home", str(home.root), "--checkout", str(checkout)),
        *("--port", str(free_port()), "--mlflow-port", str(free_port())),
    ]
    up = subprocess.Popen(
        arguments,
        # `up` ends when this pipe does: nothing stays behind, however the demo ends.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=inherited() | {"PYTHONPATH": str(package_parent())},
        start_new_session=True,
    )
    try:
        _wait_until_ready(console, home, up)
        yield
    finally:
        console.print("Stopping the service.")
        _stop(up)
    for line in _farewell(home.root):
        console.print(Text(line), soft_wrap=True)


def _farewell(home: Path) -> list[str]:
    program, place = _program(), shlex.quote(str(home))
    return [
        "Stopped. To look at it again (MLflow is then on port 5000):",
        f"  {program} up --home {place}",
        "and in another terminal:",
        f"  TRAINSHED_HOME={place} {program} ls",
    ]


def _program() -> str:
    """The command as it works from the current folder."""
    script = Path(sys.executable).with_name("trainshed")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m trainshed"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def _wait_until_ready(console: Console, home: Home, up: "subprocess.Popen[bytes]") -> None:
    said = ""
    give_up_at = time.monotonic() + READY_SECONDS
    while (missing := _missing(home, up.pid)) is not None:
        if time.monotonic() > give_up_at:
            raise StackError(f"Still waiting for {missing} after {READY_SECONDS} s. See {home.log}.")
        if missing != said:
            console.print(Text(f"  waiting for {missing}"), soft_wrap=True)
            said = missing
        if up.poll() is not None:
            assert up.stderr is not None
            raise StackError(up.stderr.read().decode(errors="replace").strip() or "`trainshed up` ended.")
        time.sleep(0.2)


def _missing(home: Home, up: int) -> str | None:
    # The address may be an earlier stack's, or that of another one which has this home.
    if home.owner != up or not home.address.exists():
        return "the database"
    with _client(home) as client:
        return client.missing()


def _client(home: Home) -> Client:
    return Client(
        home.address.read_text(encoding="utf-8").strip(), home.key.read_text(encoding="utf-8").strip()
    )


def _stop(up: "subprocess.Popen[bytes]") -> None:
    up.terminate()
    try:
        up.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its warden ends the others.
        up.kill()
        up.wait()

"""What the service adds to a training: `python -m benchmarks.overhead`.

The same job three ways, by turns: the engine's loop alone, a trainer that tells nobody (benchmarks/alone.py),
and a job of the service. Compared is the time from the end of the first epoch to the end of the last, in
which nobody starts or compiles anything; for the job as SQL has it. Beside it, the CPU seconds of all of it
and the peak memory of every process.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmarks import results
from benchmarks.machine import said
from benchmarks.processes import Peaks, family_cpu_seconds, watched_memory
from benchmarks.service import CHECKOUT, Service, running_service, wait_until_copied
from benchmarks.summary import spread
from benchmarks.table import seconds, text_table, times
from services.artifacts import dataset_folder
from services.models import Epoch
from services.store import open_store
from trainshed.job import Job
from worker.events import DatasetPlace, TrainOrder, encode_order

LOOP, TRAINER, SERVICE = "loop alone", "trainer alone", "service"
HEAD = ("", "epochs", "±", "an epoch", "of the loop", "CPU in all")
MEMORY_HEAD = ("MB", "PSS", "VmHWM", "CPU s a job")


@dataclass(frozen=True)
class Case:
    """A job; few long epochs or many short ones."""

    name: str
    spec: str
    epochs: int


CASES = {
    case.name: case
    for case in (
        Case("california", "california_housing.yaml", 500),
        Case("fashion", "fashion_mnist.yaml", 10),
    )
}


def main() -> None:
    """Print two tables for each job."""
    parser = results.options("overhead", __doc__ or "")
    parser.add_argument("--only", choices=CASES, action="append", help="this job; may come again")
    parser.add_argument("--epochs", type=int, help="in place of each job's own")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = results.begin(cases=[])
    print(said(report["machine"]))
    with running_service() as service, tempfile.TemporaryDirectory() as folder:
        for name in options.only or CASES:
            epochs = 3 if options.quick else options.epochs or CASES[name].epochs
            case = Case(name, CASES[name].spec, epochs)
            report["cases"].append(
                _measure(service, case, Path(folder), 1 if options.quick else options.rounds)
            )
            print(_tables(report["cases"][-1]), flush=True)
        service.keep_originals()
    results.finish(report, options.out)


def _measure(service: Service, case: Case, folder: Path, rounds: int) -> dict[str, Any]:
    first = _job(service, case, 1)
    taken: dict[str, list[dict[str, float]]] = {LOOP: [], TRAINER: [], SERVICE: []}
    peaks, cpu_of = Peaks(), dict[str, float]()
    for number in range(rounds):
        order = _order(service, first, case, folder / f"{case.name}-{number}")
        taken[LOOP].append(_alone("loop", order))
        taken[TRAINER].append(_alone("trainer", order))
        with watched_memory(service.pid) as seen:
            one, cpu_of = _served(service, case)
        taken[SERVICE].append(one)
        peaks.take_in(seen)
    return {
        "case": case.name,
        "epochs": case.epochs,
        "taken": {
            name: {what: asdict(spread([one[what] for one in ones])) for what in ones[0]}
            for name, ones in taken.items()
        },
        "service_memory_mb": {"pss": peaks.pss, "hwm": peaks.hwm},
        "service_cpu_seconds": cpu_of,
    }


def _job(service: Service, case: Case, epochs: int) -> Job:
    job = service.run(CHECKOUT / "examples" / case.spec, {"fit.epochs": epochs})
    wait_until_copied(service.client, [job.id])
    return job


def _order(service: Service, job: Job, case: Case, folder: Path) -> bytes:
    """What the service's worker would order for this job, with its own folder."""
    version = str(job.data["dataset"]["version"])
    dataset = dataset_folder(service.artifacts, version)
    spec: dict[str, Any] = json.loads(json.dumps(job.data["spec"]))
    spec["fit"]["epochs"] = case.epochs
    place = DatasetPlace(
        name=spec["dataset"],
        version=version,
        path=str(dataset),
        schema=json.loads((dataset / "schema.json").read_text()),
    )
    return encode_order(TrainOrder(job=job.id, fence=1, spec=spec, dataset=place, job_dir=str(folder)))


def _alone(kind: str, order: bytes) -> dict[str, float]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.alone", kind]
    answer = subprocess.run(command, input=order, capture_output=True, cwd=CHECKOUT, check=False)
    if answer.returncode:
        raise SystemExit(f"benchmarks.alone failed:\n{answer.stderr.decode()[-2000:]}")
    took = json.loads(answer.stdout)
    return {
        "epochs": took["ends"][-1] - took["ends"][0],
        "all": time.perf_counter() - began,
        "cpu": took["cpu_seconds"],
        "peak_mb": took["peak_mb"],
    }


def _served(service: Service, case: Case) -> tuple[dict[str, float], dict[str, float]]:
    before, began = family_cpu_seconds(service.pid), time.perf_counter()
    job = _job(service, case, case.epochs)
    passed = time.perf_counter() - began
    after = family_cpu_seconds(service.pid)
    cpu = {name: after[name] - before.get(name, 0.0) for name in after}
    return {"epochs": _from_first_to_last(service, job), "all": passed, "cpu": sum(cpu.values())}, cpu


def _from_first_to_last(service: Service, job: Job) -> float:
    store = open_store(f"sqlite:///{service.home / 'trainshed.db'}")
    with store.reads.begin() as session:
        ends = list(session.scalars(select(Epoch.ended_at).where(Epoch.job_id == job.id).order_by("epoch")))
    return (ends[-1] - ends[0]) / 1000


def rows_of(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each way."""
    loop = case["taken"][LOOP]["epochs"]["median"]
    return [_row(name, taken, loop, case["epochs"] - 1) for name, taken in case["taken"].items()]


def _row(name: str, taken: dict[str, Any], loop: float, epochs: int) -> tuple[str, ...]:
    wall = taken["epochs"]
    share = (wall["high"] - wall["low"]) / 2 / wall["median"]
    an_epoch, cpu = seconds(wall["median"] / epochs), seconds(taken["cpu"]["median"])
    return name, seconds(wall["median"]), f"{share:.0%}", an_epoch, times(wall["median"] / loop), cpu


def memory_rows_of(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each kind of process of the service."""
    memory, cpu = case["service_memory_mb"], case["service_cpu_seconds"]
    return [
        (name, f"{memory['pss'][name]:.0f}", f"{memory['hwm'].get(name, 0):.0f}", f"{cpu.get(name, 0):.1f}")
        for name in memory["pss"]
    ]


def _tables(case: dict[str, Any]) -> str:
    title = f"\n{case['case']}, {case['epochs']} epochs; the time of all but the first"
    memory = text_table(MEMORY_HEAD, memory_rows_of(case))
    return f"{title}\n{text_table(HEAD, rows_of(case))}\n\n{memory}"


if __name__ == "__main__":
    main()

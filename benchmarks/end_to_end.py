"""The whole way of a training, by a script of one's own and by the service: `make bench NAME=end_to_end`.

The script is a fresh process that imports, loads, trains, evaluates and logs to the same MLflow server
(benchmarks/own_script.py). The service is asked over HTTP: from submit until the job has ended and MLflow
holds all of it, including the model. By turns, on a service that is warm: it runs, and has the data and
TensorFlow loaded. `cold` counts from the start of `trainshed up` in an empty folder; the files of the
datasets are there, unread.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.machine import said
from benchmarks.processes import family_cpu_seconds
from benchmarks.service import CHECKOUT, Service, running_service, wait_until_copied
from benchmarks.summary import spread
from benchmarks.table import seconds, text_table, times
from services.spec import SplitSpec
from worker.training.data import Table, cut

PATIENCE_SECONDS = 1800
SCRIPT, WARM, COLD = "own script", "warm service", "cold service"
HEAD = ("", "wall", "±", "CPU", "of own script")


@dataclass(frozen=True)
class Way:
    """One training, in both forms."""

    name: str
    dataset: str
    spec: str
    epochs: int

    @property
    def path(self) -> Path:
        """The spec."""
        return CHECKOUT / "examples" / self.spec

    @property
    def overrides(self) -> dict[str, Any]:
        """What makes the spec do what the script does."""
        return {"fit.epochs": self.epochs, "evaluate": ["validation"], "fit.early_stopping": None}


WAYS = {
    way.name: way
    for way in (
        Way("iris", "iris", "iris.yaml", 10),
        Way("california", "california_housing", "california_housing.yaml", 20),
        Way("fashion", "fashion_mnist", "fashion_mnist.yaml", 30),
    )
}


def main() -> None:
    """Print a table for each training."""
    parser = results.options("end_to_end", __doc__ or "")
    parser.add_argument("--only", choices=WAYS, action="append", help="this training; may come again")
    parser.add_argument("--epochs", type=int, help="in place of each training's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold-rounds", type=int, default=3)
    options = parser.parse_args()
    epochs = 2 if options.quick else options.epochs
    rounds, cold_rounds = (1, 1) if options.quick else (options.rounds, options.cold_rounds)
    report = results.begin(trainings=[])
    print(said(report["machine"]))
    ways = [WAYS[name] for name in options.only or WAYS]
    ways = [Way(way.name, way.dataset, way.spec, epochs or way.epochs) for way in ways]
    with running_service() as service, tempfile.TemporaryDirectory() as folder:
        measured = {way.name: _by_turns(service, way, Path(folder), rounds) for way in ways}
        service.keep_originals()
    for way in ways:
        measured[way.name][COLD] = [_cold(way) for _ in range(cold_rounds)]
        report["trainings"].append(_training(way, measured[way.name]))
        print(_table(report["trainings"][-1]), flush=True)
    results.finish(report, options.out)


Taken = dict[str, float]


def _by_turns(service: Service, way: Way, folder: Path, rounds: int) -> dict[str, list[Taken]]:
    # It reads the dataset, and its job says where.
    first = service.run(way.path, {**way.overrides, "fit.epochs": 1})
    wait_until_copied(service.client, [first.id])
    arrays = folder / f"{way.name}.npz"
    _store_for_the_script(service, first.data, arrays)
    measured: dict[str, list[Taken]] = {SCRIPT: [], WARM: []}
    turns: dict[str, Callable[[], Taken]] = {
        SCRIPT: lambda: _script(service, way, arrays),
        WARM: lambda: _warm(service, way),
    }
    for number in range(rounds):
        for name in (SCRIPT, WARM) if number % 2 == 0 else (WARM, SCRIPT):
            measured[name].append(turns[name]())
    return measured


def _store_for_the_script(service: Service, job: Any, arrays: Path) -> None:
    """The same rows for training and validation as the service takes."""
    folder = service.artifacts / "datasets" / job["dataset"]["version"] / "train"
    table = Table(np.load(folder / "x.npy"), np.load(folder / "y.npy"))
    rows = cut(table, SplitSpec.model_validate(job["spec"]["split"]), job["spec"]["seed"])
    parts = {"train": rows.train, "val": rows.validation}
    np.savez(
        arrays,
        **{f"x_{name}": table.x[ids] for name, ids in parts.items()},
        **{f"y_{name}": table.y[ids] for name, ids in parts.items()},
    )


def _script(service: Service, way: Way, arrays: Path) -> Taken:
    command = [sys.executable, str(CHECKOUT / "benchmarks" / "own_script.py"), way.name, str(arrays)]
    command += [service.mlflow_url, str(way.epochs)]
    before, began = _cpu(service), time.perf_counter()
    log = arrays.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"own_script.py failed:\n{log.read_text()[-2000:]}")
    wall = time.perf_counter() - began
    # MLflow's part in it is the service's process.
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime + _cpu(service) - before}


def _warm(service: Service, way: Way) -> Taken:
    before, began = _cpu(service), time.perf_counter()
    job = service.run(way.path, way.overrides)
    wait_until_copied(service.client, [job.id])
    return {"wall": time.perf_counter() - began, "cpu": _cpu(service) - before}


def _cold(way: Way) -> Taken:
    with running_service(is_ready=False) as service:
        job = service.run(way.path, way.overrides)
        wait_until_copied(service.client, [job.id])
        return {"wall": time.perf_counter() - service.began, "cpu": _cpu(service)}


def _cpu(service: Service) -> float:
    return sum(family_cpu_seconds(service.pid).values())


def _training(way: Way, measured: dict[str, list[Taken]]) -> dict[str, Any]:
    return {
        "training": way.name,
        "epochs": way.epochs,
        "taken": {
            name: {what: asdict(spread([one[what] for one in taken])) for what in ("wall", "cpu")}
            for name, taken in measured.items()
        },
    }


def rows_of(training: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each way."""
    own = training["taken"][SCRIPT]["wall"]["median"]
    return [_row(name, taken, own) for name, taken in training["taken"].items()]


def _row(name: str, taken: dict[str, Any], own: float) -> tuple[str, ...]:
    wall = taken["wall"]
    share = (wall["high"] - wall["low"]) / 2 / wall["median"]
    cpu = seconds(taken["cpu"]["median"])
    return name, seconds(wall["median"]), f"{share:.0%}", cpu, times(wall["median"] / own)


def _table(training: dict[str, Any]) -> str:
    title = f"{training['training']}, {training['epochs']} epochs"
    return f"\n{title}\n{text_table(HEAD, rows_of(training))}"


if __name__ == "__main__":
    main()

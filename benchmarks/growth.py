"""How time and memory grow with the data and with the model: `python -m benchmarks.growth`.

Fashion-MNIST, two hidden layers of equal width, batch 32, Trainshed's engine; each size is a process of its
own, by turns. The exponent k of `size^k` is fitted by least squares of the logarithms. Memory is the peak of
the process less what it had after its imports.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.arrays import store_arrays
from benchmarks.machine import said
from benchmarks.race import Contender, prepared, started, take_turns
from benchmarks.summary import exponent, spread
from benchmarks.table import seconds, text_table
from benchmarks.workloads import WORKLOADS, Workload, order

BATCH_SIZE = 32
ROWS, UNITS = 3_750, 128
BASE = replace(WORKLOADS["fashion"], rows=ROWS, layers=(UNITS, UNITS, 10))
HEAD = ("", "epoch", "±", "CPU", "memory")


def main() -> None:
    """Print a table for the data and one for the model."""
    parser = results.options("growth", __doc__ or "")
    parser.add_argument("--engine", default="xla")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    factors = (1, 2) if options.quick else (1, 4, 16)
    series = {
        "rows": [replace(BASE, name=f"{ROWS * n:,} rows", rows=ROWS * n) for n in factors],
        "units": [_wider(n) for n in (1, 2, 4)],
    }
    report = results.begin(engine=options.engine, batch_size=BATCH_SIZE, series=[])
    print(said(report["machine"]))
    for what, workloads in series.items():
        rounds = 2 if options.quick else options.rounds
        report["series"].append(_measure(what, workloads, options.engine, rounds, options.out))
        print(_table(report["series"][-1]), flush=True)
    results.finish(report, options.out)


def _wider(factor: int) -> Workload:
    units = UNITS * factor
    return replace(BASE, name=f"{units} units", rows=4 * ROWS, layers=(units, units, 10))


def _measure(what: str, workloads: Sequence[Workload], engine: str, rounds: int, out: Path) -> dict[str, Any]:
    contenders = [Contender(one.name, "engine", engine) for one in workloads]
    with (
        tempfile.TemporaryDirectory() as folder,
        started(contenders, out.with_suffix(".log")) as runners,
    ):
        orders = [order(one, BATCH_SIZE, store_arrays(one, Path(folder)).places) for one in workloads]
        measured = take_turns(runners, prepared(runners, orders), rounds)
        before = {runner.name: runner.memory_mb for runner in runners}
    sizes = [one.rows if what == "rows" else one.layers[0] for one in workloads]
    points = [
        {
            "name": one["contender"],
            "size": size,
            "seconds": asdict(spread([turn["seconds"] for turn in one["turns"]])),
            "cpu_seconds": asdict(spread([turn["cpu_seconds"] for turn in one["turns"]])),
            "memory_mb": one["turns"][-1]["memory_mb"] - before[one["contender"]],
        }
        for size, one in zip(sizes, measured, strict=True)
    ]
    return {"what": what, "points": points, **exponents(points)}


def exponents(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The fitted ones of time and of memory."""
    sizes = [one["size"] for one in points]
    return {
        "exponent_of_time": exponent(sizes, [one["seconds"]["median"] for one in points]),
        "exponent_of_memory": exponent(sizes, [one["memory_mb"] for one in points]),
    }


def rows_of(series: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each size, and the exponents."""
    last = ("exponent", f"{series['exponent_of_time']:.2f}", "", "", f"{series['exponent_of_memory']:.2f}")
    return [*(_row(point) for point in series["points"]), last]


def _row(point: dict[str, Any]) -> tuple[str, ...]:
    taken = point["seconds"]
    share = (taken["high"] - taken["low"]) / 2 / taken["median"]
    cpu = seconds(point["cpu_seconds"]["median"])
    return point["name"], seconds(taken["median"]), f"{share:.0%}", cpu, f"{point['memory_mb']:.0f} MB"


def _table(series: dict[str, Any]) -> str:
    return f"\nwith {series['what']}\n{text_table(HEAD, rows_of(series))}"


if __name__ == "__main__":
    main()

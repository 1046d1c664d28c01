"""Seconds of an epoch, by Trainshed's loops and by others: `python -m benchmarks.engine`.

Everybody trains the same model on the same rows in float32 and computes the mean loss: no metric, no
validation. The limit is the time of the epoch's matrix products alone, by NumPy or torch.mm, whichever is
faster in that run. Those two and PyTorch use one thread or all cores, whichever is faster for the workload;
the others have all cores.
"""

import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.arrays import store_arrays
from benchmarks.limit import operations_of_an_epoch
from benchmarks.machine import said
from benchmarks.race import Contender, Runner, race, started
from benchmarks.summary import spread
from benchmarks.table import seconds, text_table, times
from benchmarks.workloads import BATCH_SIZES, WORKLOADS, Workload, order, quick

STOCK = "model.fit"
CONTENDERS = (
    Contender("Trainshed xla", "engine", "xla"),
    Contender("Trainshed graph", "engine", "graph"),
    Contender(STOCK, "keras_fit", "1"),
    Contender("model.fit, 32 steps_per_execution", "keras_fit", "32"),
    Contender("PyTorch loop", "torch_loop", "index", needs_other_python=True),
    Contender("PyTorch DataLoader", "torch_loop", "loader", needs_other_python=True),
    Contender("JAX scan", "jax_scan", needs_other_python=True),
    Contender("scikit-learn", "scikit_learn"),
)
LIMITS = (
    Contender("products: NumPy", "products_numpy"),
    Contender("products: torch.mm", "products_torch", needs_other_python=True),
)
LIMIT = "limit"
HEAD = ("", "epoch", "±", "CPU", "of model.fit", "of limit", "loss")


def main() -> None:
    """Print a table for each workload and batch size."""
    parser = results.options("engine", __doc__ or "")
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="this workload; may come again")
    parser.add_argument("--batch", type=int, action="append", help="this batch size; may come again")
    parser.add_argument("--contender", action="append", help="those whose name holds this; may come again")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    report = results.begin(rounds=rounds, races=[])
    print(said(report["machine"]))
    chosen = [one for one in CONTENDERS if _is_chosen(one, options.contender)]
    report["not_installed"] = [one.name for one in (*chosen, *LIMITS) if not one.is_installed]
    with (
        tempfile.TemporaryDirectory() as folder,
        started([*chosen, *LIMITS], options.out.with_suffix(".log")) as runners,
    ):
        report["versions"] = {name: text for one in runners for name, text in one.versions.items()}
        print(", ".join(f"{name} {text}" for name, text in report["versions"].items()))
        for name, batch in product(options.only or WORKLOADS, options.batch or BATCH_SIZES):
            workload = quick(WORKLOADS[name]) if options.quick else WORKLOADS[name]
            report["races"].append(_race(workload, batch, Path(folder), runners, rounds))
            print(_table(report["races"][-1], report["not_installed"]), flush=True)
    results.finish(report, options.out)


def _is_chosen(contender: Contender, wanted: list[str] | None) -> bool:
    # The stock loop is what the others are compared with.
    return not wanted or contender.name == STOCK or any(part in contender.name for part in wanted)


def _race(workload: Workload, batch: int, folder: Path, runners: list[Runner], rounds: int) -> dict[str, Any]:
    arrays = store_arrays(workload, folder)
    measured = race(runners, order(workload, batch, arrays.places), rounds)
    rows, inputs, layers = workload.rows, workload.inputs, workload.layers
    return {
        "workload": workload.name,
        "about": workload.about,
        "has_real_data": arrays.is_real,
        "batch_size": batch,
        "gigaoperations": operations_of_an_epoch(rows, batch, inputs, layers) / 1e9,
        "epochs": with_limit([_epochs(one, workload.epochs_a_turn) for one in measured]),
    }


def _epochs(measured: dict[str, Any], epochs_a_turn: int) -> dict[str, Any]:
    """A contender's turns as seconds an epoch."""
    turns = measured["turns"]
    return {
        **{name: measured[name] for name in ("contender", "prepare_seconds", "threads")},
        "seconds": asdict(spread([turn["seconds"] / epochs_a_turn for turn in turns])),
        "cpu_seconds": asdict(spread([turn["cpu_seconds"] / epochs_a_turn for turn in turns])),
        "loss": turns[-1]["loss"],
    }


def with_limit(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The faster of those who only multiply, under the name of limit, in place of both."""
    products = [one for one in epochs if one["contender"].startswith("products: ")]
    others = [one for one in epochs if one not in products]
    best = min(products, key=lambda one: one["seconds"]["median"])
    return [*others, {**best, "contender": LIMIT, "by": best["contender"].removeprefix("products: ")}]


def ratios(race_report: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Each contender's seconds as a multiple of stock fit's and of the limit's."""
    medians = {one["contender"]: one["seconds"]["median"] for one in race_report["epochs"]}
    return {name: (value / medians[STOCK], value / medians[LIMIT]) for name, value in medians.items()}


def _table(one: dict[str, Any], not_installed: list[str]) -> str:
    rows = [_row(epoch, *ratios(one)[epoch["contender"]]) for epoch in one["epochs"]]
    rows += [(name, "not installed", *[""] * (len(HEAD) - 2)) for name in not_installed]
    data = "" if one["has_real_data"] else "; the rows are drawn at random, no source had the dataset"
    title = f"{one['workload']}, batch {one['batch_size']}: {one['about']}{data}"
    return f"\n{title}\n{text_table(HEAD, rows)}"


def _row(epoch: dict[str, Any], of_stock: float, of_limit: float) -> tuple[str, ...]:
    taken = epoch["seconds"]
    name = f"{LIMIT}: {epoch['by']}" if "by" in epoch else epoch["contender"]
    name += ", 1 thread" if epoch["threads"] == 1 else ""
    share = (taken["high"] - taken["low"]) / 2 / taken["median"]
    cpu = seconds(epoch["cpu_seconds"]["median"])
    loss = "" if "by" in epoch else f"{epoch['loss']:.3f}"
    return name, seconds(taken["median"]), f"{share:.0%}", cpu, times(of_stock), times(of_limit), loss


if __name__ == "__main__":
    main()

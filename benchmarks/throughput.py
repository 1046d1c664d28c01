"""How many small jobs the service does: `python -m benchmarks.throughput`.

One person submits `examples/iris.yaml` with 10 epochs many times: first one after the other, each when the
one before has ended, then all at once. How long a job took is what the service says of it: from its submit.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from benchmarks import results
from benchmarks.machine import said
from benchmarks.processes import family_cpu_seconds
from benchmarks.service import CHECKOUT, Service, running_service, wait_until_copied
from benchmarks.summary import percentile
from benchmarks.table import seconds, text_table
from trainshed.job import Job

SPEC = CHECKOUT / "examples" / "iris.yaml"
OVERRIDES = {"fit.epochs": 10, "fit.early_stopping": None}
HEAD = ("", "jobs", "a minute", "first epoch p50", "p99", "end p50", "p99", "CPU a job", "all in MLflow")


def main() -> None:
    """Print a table."""
    parser = results.options("throughput", __doc__ or "")
    parser.add_argument("--jobs", type=int, default=100, help="submitted at once")
    parser.add_argument("--singles", type=int, default=20, help="submitted one after the other")
    options = parser.parse_args()
    jobs, singles = (5, 2) if options.quick else (options.jobs, options.singles)
    report = results.begin()
    print(said(report["machine"]))
    with running_service() as service:
        service.run(SPEC, OVERRIDES)
        report["ways"] = {
            "one after the other": _measure(service, lambda: _one_by_one(service, singles)),
            "all at once": _measure(service, lambda: _at_once(service, jobs)),
        }
    print(text_table(HEAD, rows_of(report["ways"])))
    results.finish(report, options.out)


def _one_by_one(service: Service, count: int) -> list[Job]:
    return [service.run(SPEC, {**OVERRIDES, "seed": seed}) for seed in range(count)]


def _at_once(service: Service, count: int) -> list[Job]:
    jobs = [service.client.submit(SPEC, overrides={**OVERRIDES, "seed": seed}) for seed in range(count)]
    return [job.wait() for job in jobs]


def _measure(service: Service, work: Callable[[], list[Job]]) -> dict[str, Any]:
    before, began = sum(family_cpu_seconds(service.pid).values()), time.perf_counter()
    jobs = work()
    wait_until_copied(service.client, [job.id for job in jobs])
    copied = time.perf_counter() - began
    cpu = sum(family_cpu_seconds(service.pid).values()) - before
    return {**summary([job.data["timings"] for job in jobs]), "cpu_seconds": cpu, "copied_seconds": copied}


def summary(timings: Sequence[Any]) -> dict[str, Any]:
    """Of jobs' timings as the service tells them."""
    created = [datetime.fromisoformat(one["created_at"]) for one in timings]
    finished = [datetime.fromisoformat(one["finished_at"]) for one in timings]
    minutes = (max(finished) - min(created)).total_seconds() / 60
    ends = [(end - start).total_seconds() for start, end in zip(created, finished, strict=True)]
    firsts = [one["first_epoch_seconds"] for one in timings]
    return {
        "jobs": len(timings),
        "jobs_a_minute": len(timings) / minutes,
        "first_epoch": {"p50": percentile(firsts, 0.5), "p99": percentile(firsts, 0.99)},
        "end": {"p50": percentile(ends, 0.5), "p99": percentile(ends, 0.99)},
    }


def rows_of(ways: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each way of submitting."""
    return [
        (
            name,
            str(one["jobs"]),
            f"{one['jobs_a_minute']:.1f}",
            *(seconds(one[when][share]) for when in ("first_epoch", "end") for share in ("p50", "p99")),
            seconds(one["cpu_seconds"] / one["jobs"]),
            seconds(one["copied_seconds"]),
        )
        for name, one in ways.items()
    ]


if __name__ == "__main__":
    main()

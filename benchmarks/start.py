"""How soon a small job starts on a warm service, and what the processes weigh: `python -m benchmarks.start`.

Starts a service of its own in a temporary folder, submits `examples/iris.yaml` one after the other, and reads
from each job the seconds from submit to claim and to the end of the first epoch.
"""

from dataclasses import asdict

from benchmarks import results
from benchmarks.processes import family_pss_mb
from benchmarks.service import CHECKOUT, Service, running_service
from benchmarks.summary import Spread, spread


def main() -> None:
    """Print a table and write JSON."""
    parser = results.options("start", __doc__ or "")
    parser.add_argument("--jobs", type=int, default=15)
    options = parser.parse_args()
    report = results.begin()
    with running_service() as service:
        measured = [_run(service, number) for number in range(3 if options.quick else options.jobs)]
        taken = {name: spread([one[name] for one in measured]) for name in measured[0]}
        memory = family_pss_mb(service.pid)
    _print(taken, memory)
    report |= {"seconds": {name: asdict(one) for name, one in taken.items()}, "memory_mb": memory}
    results.finish(report, options.out)


def _run(service: Service, number: int) -> dict[str, float]:
    timings = service.run(CHECKOUT / "examples" / "iris.yaml", {"seed": number}).data["timings"]
    return {
        "submit to claim": timings["queue_seconds"] or 0.0,
        "submit to end of first epoch": timings["first_epoch_seconds"] or 0.0,
    }


def _print(taken: dict[str, Spread], memory: dict[str, float]) -> None:
    print(f"{'seconds':32} {'median':>8} {'max':>8}")
    for name, values in taken.items():
        print(f"{name:32} {values.median:8.2f} {values.high:8.2f}")
    print(f"\n{'process':32} {'MB':>8}")
    for name, size in memory.items():
        print(f"{name:32} {size:8.0f}")


if __name__ == "__main__":
    main()

"""How soon a prediction is answered: `python -m benchmarks.predict`.

Starts a service of its own in a temporary folder, trains `examples/iris.yaml` five times, waits until MLflow
has the jobs, and sends one row many times over HTTP. A first answer waits for a process that loads the model;
three models are kept loaded, so that asking five in turn loads each time.
"""

import statistics
import time
from typing import Any

import httpx

from benchmarks import results
from benchmarks.service import CHECKOUT, running_service, wait_until_copied

ROW = [[5.1, 3.5, 1.4, 0.2]]
PAUSE_SECONDS = 0.05
# More than are kept loaded.
MODELS = 5
ROUNDS = 2


def main() -> None:
    """Print a table and write JSON."""
    parser = results.options("predict", __doc__ or "")
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    report = results.begin()
    with running_service() as service:
        spec = CHECKOUT / "examples" / "iris.yaml"
        jobs = [service.run(spec, {"seed": seed}).id for seed in range(MODELS)]
        # Copying takes the processors for some seconds; the figures are of a service at rest.
        wait_until_copied(service.client, jobs)
        with httpx.Client(base_url=service.url, headers=service.headers, timeout=60) as http:
            report["milliseconds"] = _measure(http, jobs, 20 if options.quick else options.requests)
    for name, value in report["milliseconds"].items():
        print(f"{name:32} {value:8.1f} ms")
    results.finish(report, options.out)


def _measure(http: httpx.Client, jobs: list[str], requests: int) -> dict[str, Any]:
    first = _predict(http, jobs[0])
    loads, seconds = [], []
    for job in [*jobs[1:], *jobs * (ROUNDS - 1)]:
        loads.append(_predict(http, job))
        seconds.append(_predict(http, job))
    times = []
    for _ in range(requests):
        time.sleep(PAUSE_SECONDS)
        times.append(_predict(http, jobs[-1]))
    return {
        "first answer": first,
        "first answer of another model": statistics.median(loads),
        "second answer": statistics.median(seconds),
        "median": statistics.median(times),
        "99th percentile": statistics.quantiles(times, n=100)[-1],
    }


def _predict(http: httpx.Client, job: str) -> float:
    """Milliseconds from the request to its answer."""
    began = time.perf_counter()
    answer = http.post(f"/v1/jobs/{job}/predictions", json={"instances": ROW})
    place = answer.headers["Location"]
    while answer.raise_for_status().json()["state"] in {"queued", "running"}:
        time.sleep(PAUSE_SECONDS)
        answer = http.get(place)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""From a CSV to a trained model in the running service."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack import Stack, until

HOUSES = Path(__file__).parents[2] / "shared" / "data" / "california_housing.csv.gz"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HOUSES.exists(), reason="the Californian houses are not beside the checkout"),
]


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client with the service's own key."""
    key = (stack.home / "key").read_text().strip()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{stack.port}", headers={"Authorization": f"Bearer {key}"}, timeout=60
    ) as client:
        yield client


def with_bands(table: str) -> str:
    """Another column: how old the houses of a district are, in words."""
    header, *lines = table.splitlines()
    names = header.split(",")

    def band(line: str) -> str:
        age = float(line.split(",")[names.index("HouseAge")])
        return "new" if age < 15 else "old" if age > 40 else "middle"

    return "\n".join([f"{header},age band", *(f"{line},{band(line)}" for line in lines)])


def upload(http: httpx.Client, content: str, **meta: Any) -> dict[str, Any]:
    """Send a CSV and wait until it was read."""
    sent = http.post(
        "/v1/datasets",
        files={"file": ("houses.csv", content.encode())},
        data={"meta": json.dumps({"task": "regression", "target": "MedHouseVal", **meta})},
    )
    assert sent.status_code == 202, sent.text

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = http.get(sent.headers["Location"]).json()
        return found if found["state"] != "processing" else None

    return until(ended, 60, "the upload was read")


@pytest.mark.parametrize("name", ["houses", "houses-bands"])
def test_an_uploaded_table_trains_to_a_good_model(stack: Stack, http: httpx.Client, name: str) -> None:
    table = gzip.decompress(HOUSES.read_bytes()).decode()
    bands = ["age band"] if name == "houses-bands" else []
    ready = upload(http, with_bands(table) if bands else table, name=name, categorical=bands)
    assert ready["state"] == "ready", ready["problems"]
    shown = http.get(f"/v1/datasets/{name}").json()
    assert shown["schema"]["rows"] == {"train": 16_512, "test": 4_128, "validation": 0}
    assert shown["schema"]["features"]["shape"] == [8 + 3 * len(bands)]
    hidden = {"type": "Dense", "units": 50, "activation": "relu"}
    job = stack.submit(
        {
            "dataset": name,
            "split": {"validation": {"fraction": 0.2}},
            "model": {
                "layers": ["Normalization", hidden, hidden, hidden, {"type": "Dense", "units": 1}],
            },
            "compile": {
                "loss": "mse",
                "optimizer": {"type": "Adam", "learning_rate": 0.002},
                "metrics": ["RootMeanSquaredError"],
            },
            "fit": {"epochs": 25, "batch_size": 64},
            "evaluate": ["test"],
            "seed": 42,
        }
    )
    stack.finish(job)
    assert job.data["state"] == "succeeded", job.data["detail"]
    (evaluation,) = http.get(f"/v1/jobs/{job.id}/evaluations").json()["data"]
    assert evaluation["metrics"]["RootMeanSquaredError"] < 0.60

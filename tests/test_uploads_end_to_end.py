"""From a CSV to a trained model in the running service."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.schema import DatasetSchema
from tests.stack import Stack, until
from trainshed.errors import RowsDoubtful
from trainshed.job import Job
from worker.encoding import encode_rows

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
def test_an_uploaded_table_trains_to_a_good_model(
    stack: Stack, http: httpx.Client, request: pytest.FixtureRequest, name: str
) -> None:
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
    rows = [*csv.DictReader(io.StringIO(with_bands(table)))][:100]
    columns = [column["name"] for column in shown["schema"]["features"]["columns"]]
    by_name = [{name: row[name] if name in bands else float(row[name]) for name in columns} for row in rows]
    predicted = [one["values"]["MedHouseVal"] for one in job.predict(by_name)]
    assert predicted == pytest.approx(of_the_mlflow_model(request, stack, job, by_name, shown), rel=1e-5)
    if bands:
        with pytest.warns(RowsDoubtful, match="`age band`.*2 rows, first row 1"):
            job.predict([row | {"age band": "ancient"} for row in by_name[:2]])


def of_the_mlflow_model(
    request: pytest.FixtureRequest,
    stack: Stack,
    job: Job,
    rows: list[dict[str, Any]],
    dataset: dict[str, Any],
) -> list[float]:
    """What MLflow's copy of the model says of these rows as inputs."""
    import mlflow

    request.addfinalizer(lambda: mlflow.set_tracking_uri(None))
    mlflow.set_tracking_uri(stack.mlflow_url)
    model = mlflow.pyfunc.load_model(f"runs:/{stack.mlflow_run_id(job.id)}/model")
    inputs = encode_rows(DatasetSchema.model_validate(dataset["schema"]), rows)
    return [float(value) for value in model.predict(inputs)[:, 0]]

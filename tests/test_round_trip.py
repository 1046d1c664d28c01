"""The whole way of a person with a table and Python, against the running service."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.stack import Stack
from trainshed import AsyncClient, Client
from trainshed.cli import app
from trainshed.errors import Conflict, DataRejected, Refused
from trainshed.job import Job

pytestmark = pytest.mark.slow
MEANING = {"task": "regression", "target": "z", "categorical": ["side"]}
SPEC = {
    "name": "plane",
    "dataset": "plane",
    "split": {"validation": {"fraction": 0.2}},
    "model": {"layers": ["Normalization", {"type": "Dense", "units": 1}]},
    "compile": {
        "loss": "mean_squared_error",
        "optimizer": {"type": "Adam", "learning_rate": 0.1},
        "metrics": ["mean_absolute_error"],
    },
    "fit": {"epochs": 30, "batch_size": 16},
    "seed": 3,
}


def points(rows: int = 200) -> pd.DataFrame:
    """Points of a plane that has a step between its two sides."""
    random = np.random.default_rng(5)
    x, y = random.normal(size=(2, rows))
    side = np.where(random.random(rows) < 0.5, "left", "right")
    return pd.DataFrame({"x": x, "y": y, "side": side, "z": 2 * x - y + 3 * (side == "right")})


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return (stack.home / "key").read_text().strip()


@dataclass(frozen=True)
class Trained:
    """A model of the plane, and how it came about."""

    data: pd.DataFrame
    added: dict[str, Any]
    job: Job
    events: list[Any]


@pytest.fixture(scope="module")
def trained(stack: Stack, key: str) -> Iterator[Trained]:
    """What the tests share: each more job costs seconds."""
    with Client(stack.client.url, key) as client:
        data = points()
        added = client.datasets.add(data, name="plane", **MEANING)
        job = client.submit(SPEC)
        yield Trained(data, dict(added), job, list(job.stream()))


def test_the_round_trip(trained: Trained, tmp_path: Path) -> None:
    data, added, job, events = trained.data, trained.added, trained.job, trained.events
    curve = job.history()
    look = job.evaluate("test", reason="the final figure")
    rows = data.head(3).drop(columns="z")
    foretold = job.predict(rows)
    model = job.model()
    longer = job.continue_(5).wait()
    whole = longer.history()
    picture = job.predicted_vs_true(tmp_path / "points.png", split="test")

    told = {event["epoch"]: event["metrics"] for event in events if event["event"] == "epoch"}
    assert (events[-1]["event"], events[-1]["state"], events[-1]["reason"]) == (
        "done",
        "succeeded",
        "finished",
    )
    assert [told[epoch]["loss"] for epoch in range(30)] == curve["loss"].tolist()
    assert job.data["dataset"] == {"name": "plane", "version": added["version"]}
    assert look["metrics"]["mean_absolute_error"] < 0.2
    assert client_values(foretold) == pytest.approx(data["z"].head(3).tolist(), abs=0.5)
    encoded = np.column_stack([rows["x"], rows["y"], rows["side"] == "left", rows["side"] == "right"])
    assert client_values(foretold) == pytest.approx(
        model.predict(encoded, verbose=0)[:, 0].tolist(), abs=1e-4
    )
    assert whole.head(30)["loss"].tolist() == curve["loss"].tolist()
    assert whole.index.tolist() == list(range(35))
    assert picture.read_bytes().startswith(b"\x89PNG")


def client_values(foretold: list) -> list[float]:
    return [one["values"]["z"] for one in foretold]


def test_the_round_trip_without_waiting_in_vain(stack: Stack, key: str) -> None:
    async def way() -> tuple[str, list[int], float | None]:
        async with AsyncClient(stack.client.url, key) as client:
            await client.datasets.add(points(60), name="small", **MEANING, test={"last": 10})
            spec = SPEC | {"dataset": "small", "fit": {"epochs": 3}}
            jobs = await asyncio.gather(client.submit(spec), client.submit(spec | {"seed": 4}))
            first, second = await asyncio.gather(*(job.wait() for job in jobs))
            epochs = [event["epoch"] async for event in second.stream() if event["event"] == "epoch"]
            (one,) = await first.predict([{"x": 0.5, "y": 1.0, "side": "left"}])
            return second.state, epochs, one["values"]["z"]

    state, epochs, z = asyncio.run(way())
    assert (state, epochs) == ("succeeded", [0, 1, 2])
    assert isinstance(z, float)


def test_every_post_to_the_service_may_be_repeated(stack: Stack, key: str, trained: Trained) -> None:
    """The same key again gives what the first request made; nothing is made twice."""
    with Client(stack.client.url, key) as client:
        transport = client._transport
        bodies = {
            "evaluations": {"split": "test", "reason": "once"},
            "predictions": {"split": "test", "reason": "once", "rows": [0]},
            "continue": {"epochs": 1},
            "clone": {"set": {"fit.epochs": 1}},
        }
        for route, body in bodies.items():
            path = f"/v1/jobs/{trained.job.id}/{route}"
            made = [transport.post(path, {"json": body}, key=f"once-{route}")["id"] for _ in range(2)]
            assert made[0] == made[1], route
            if route in {"continue", "clone"}:
                client.job(made[0]).cancel()
        looks = [look["subject"] for look in client.datasets.ledger("plane") if look["why"] == "once"]
        assert looks == ["evaluation", "prediction"]


def test_a_stream_outlives_the_server(stack: Stack, key: str) -> None:
    with Client(stack.client.url, key, patience=120) as client:
        client.datasets.add(points(60), name="long", **MEANING)
        job = client.submit(SPEC | {"dataset": "long", "fit": {"epochs": 150}})
        told: list[int] = []
        before = stack.pids("api")
        for event in job.stream():
            if event["event"] == "epoch":
                if not told:
                    stack.kill("api")
                told.append(event["epoch"])
    assert told == list(range(150))
    assert job.state == "succeeded"
    assert stack.pids("api") != before


def test_the_same_way_on_the_command_line(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            app([*arguments, "-o", "json"], prog_name="trainshed")
        printed = capsys.readouterr()
        assert ended.value.code in {0, None}, printed.err
        return json.loads(printed.out.splitlines()[-1])

    monkeypatch.delenv("TRAINSHED_URL", raising=False)
    monkeypatch.setenv("TRAINSHED_HOME", str(stack.home))
    monkeypatch.chdir(tmp_path)
    points(60).to_csv("points.csv.gz", index=False)
    Path("spec.json").write_text(json.dumps(SPEC | {"dataset": "by-hand", "fit": {"epochs": 2}}))

    meaning = ["--task", "regression", "--target", "z", "--set", 'categorical=["side"]']
    upload = run("datasets", "add", "points.csv.gz", "--name", "by-hand", *meaning)
    assert run("datasets", "versions", "by-hand")[0]["version"] == upload["version"]
    job = run("submit", "spec.json", "--watch")
    assert (job["state"], job["dataset"]["version"]) == ("succeeded", upload["version"])
    assert run("update", "last", "--label", "kind:best", "--note", "a try")["labels"] == {"kind": "best"}
    assert len(run("predict", "last", "--file", "points.csv.gz")) == 60
    run("predict", "last", "--split", "validation", "--out", "p.csv")
    assert pd.read_csv("p.csv").columns.tolist() == ["row", "z"]
    run("plot", "--kind", "predicted-vs-true")
    assert Path("predicted-vs-true.png").read_bytes().startswith(b"\x89PNG")
    longer = run("continue", "last", "--epochs", "1", "--watch")
    assert (longer["progress"]["epoch"], longer["parent"]["job"]) == (3, job["id"])
    clone = run("clone", job["id"], "--set", "fit.epochs=1", "--watch")
    assert run("delete", clone["id"], "--yes", "--mlflow") == {"deleted": clone["id"]}


def test_rejected_data_and_rows_name_line_and_column(
    stack: Stack, key: str, trained: Trained, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("x,z\n1,2\nmany,3\n4,5\n" + "1,2\n" * 20)
    with Client(stack.client.url, key) as client:
        with pytest.raises(DataRejected) as rejected:
            client.datasets.add(wrong, name="wrong", task="regression", target="z")
        assert [(item["line"], item["column"]) for item in rejected.value.problems] == [(3, "x")]
        assert "line 3, column x" in str(rejected.value)
    with pytest.raises(Refused, match="/instances/0/x"):
        trained.job.predict([{"x": "many", "y": 1, "side": "left"}])
    with pytest.raises(Conflict):
        trained.job.retry()

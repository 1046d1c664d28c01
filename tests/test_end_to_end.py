"""The main job through real processes: Valkey, MLflow, the API, both workers, `tf.keras`."""

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.postgres import running_postgres
from tests.stack import Service, Stack, running_service, running_stack, still_there, trainer_pids, until
from trainshed.errors import ProblemError

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


def digits(**fit: Any) -> dict[str, Any]:
    """A job on the small digits that takes some seconds."""
    return {
        "name": "digits",
        "dataset": "digits",
        "split": {"validation": {"fraction": 0.2}},
        "preprocessing": {"scale": 16},
        "model": {
            "layers": [
                "Flatten",
                {"type": "Dense", "units": 64, "activation": "relu"},
                {"type": "Dense", "units": 10, "activation": "softmax"},
            ]
        },
        "compile": {
            "loss": "sparse_categorical_crossentropy",
            "optimizer": {"type": "Adam", "learning_rate": 0.001},
            "metrics": ["accuracy"],
        },
        "fit": {"epochs": 8, "batch_size": 8, **fit},
        "seed": 7,
    }


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "ended_at"} for row in rows]


def mlflow_points(stack: Service, job_id: str) -> dict[str, list[tuple[int, float, int]]]:
    """Each metric's points in MLflow as (step, value, timestamp)."""
    from mlflow import MlflowClient

    client = MlflowClient(stack.mlflow_url)
    run = client.get_run(stack.mlflow_run_id(job_id))
    return {
        key: sorted((m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }


def assert_all_agree(stack: Service, job_id: str, epochs: int) -> None:
    """SQL, MLflow and HTTP hold the same history, to the last bit, each epoch once."""
    rows = stack.sql_history(job_id)
    assert [row["epoch"] for row in rows] == list(range(epochs))
    answer = stack.client.job(job_id).history_json()
    points = mlflow_points(stack, job_id)
    for metric, values in answer["history"].items():
        assert values == [row[metric] for row in rows]
        assert points[metric] == [(row["epoch"], row[metric], row["ended_at"]) for row in rows]


@pytest.fixture(scope="module")
def golden(stack: Stack) -> list[dict[str, Any]]:
    """The history of the long digits job when nothing disturbs it."""
    job = stack.finish(stack.submit(digits(epochs=LONG)))
    assert job.state == "succeeded"
    assert_all_agree(stack, job.id, LONG)
    return without_times(stack.sql_history(job.id))


LONG = 240


def test_the_headline_job(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Fashion-MNIST, 300-100-10, 30 epochs: the figures, and one model wherever it is loaded from."""
    job = stack.client.submit(EXAMPLES / "fashion_mnist.yaml")
    stack.finish(job, seconds=280)
    assert (job.state, job.reason) == ("succeeded", "finished"), job.data["detail"]
    assert_all_agree(stack, job.id, 30)
    assert 0.875 < job.metrics["val_accuracy"] < 0.9
    assert job.summary()["params"] == 266_610
    assert job.history_json()["params"]["steps"] == 1719

    import keras
    import mlflow

    # MLflow keeps the address for the whole process; other tests have servers of their own.
    request.addfinalizer(lambda: mlflow.set_tracking_uri(None))
    mlflow.set_tracking_uri(stack.mlflow_url)
    version = job.data["dataset"]["version"]
    pixels = np.load(stack.home / "artifacts" / "datasets" / version / "train" / "x.npy", mmap_mode="r")[:500]
    model = keras.models.load_model(job.download_model(tmp_path / "model.keras"))
    downloaded = model.predict(pixels, verbose=0)
    uri = f"runs:/{stack.mlflow_run_id(job.id)}/model"
    np.testing.assert_array_equal(mlflow.keras.load_model(uri).predict(pixels, verbose=0), downloaded)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(uri).predict(np.asarray(pixels)), downloaded)
    curves = job.learning_curves(tmp_path / "curves.png")
    assert curves.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("victim", ["api", "valkey", "mlflow", "train", "trainer", "housekeeping"])
def test_a_job_survives_the_death_of_a_process(
    stack: Stack, golden: list[dict[str, Any]], victim: str
) -> None:
    job = stack.submit(digits(epochs=LONG))
    until(lambda: len(stack.sql_history(job.id)) > 5, 60, "some epochs are done")
    if victim == "trainer":
        os.kill(trainer_pids(stack)[0], signal.SIGKILL)
    else:
        stack.kill(victim)
    stack.finish(job)
    assert job.state == "succeeded"
    assert_all_agree(stack, job.id, LONG)
    assert without_times(stack.sql_history(job.id)) == golden
    expected = 2 if victim in {"train", "trainer"} else 1
    assert len(job.attempts()) == expected


def test_a_trainer_is_kept_track_of_when_its_forkserver_dies(
    stack: Stack, golden: list[dict[str, Any]]
) -> None:
    job = stack.submit(digits(epochs=LONG))
    until(lambda: len(stack.sql_history(job.id)) > 5, 60, "some epochs are done")
    stack.kill("forkserver")
    stack.finish(job)
    assert without_times(stack.sql_history(job.id)) == golden
    assert len(job.attempts()) == 1
    hanging = stack.submit(digits(epochs=5000))
    until(lambda: len(stack.sql_history(hanging.id)) > 3, 60, "some epochs are done")
    (trainer,) = trainer_pids(stack)
    stack.kill("forkserver")
    os.kill(trainer, signal.SIGSTOP)
    hanging.cancel()
    stack.finish(hanging, seconds=40)
    assert hanging.state == "cancelled"
    assert not Path(f"/proc/{trainer}").exists()


def test_a_running_job_is_cancelled_and_its_history_kept(stack: Stack) -> None:
    job = stack.submit(digits(epochs=5000))
    until(lambda: len(stack.sql_history(job.id)) > 3, 60, "some epochs are done")
    job.cancel()
    stack.finish(job, seconds=30)
    assert (job.state, job.reason) == ("cancelled", "user_cancelled")
    assert_all_agree(stack, job.id, len(stack.sql_history(job.id)))
    until(lambda: not trainer_pids(stack), 10, "the trainer is gone")


def test_a_queued_job_is_cancelled_at_once(stack: Stack) -> None:
    running = stack.submit(digits(epochs=5000))
    waiting = stack.submit(digits())
    assert waiting.cancel().state == "cancelled"
    running.cancel()
    stack.finish(running, seconds=30)
    assert waiting.attempts() == []


def test_a_look_at_the_test_split_needs_a_reason_and_is_written_down(stack: Stack) -> None:
    job = stack.finish(stack.submit(digits()))
    with pytest.raises(ProblemError, match="reason"):
        job.ask_evaluation("test")
    evaluation = job.evaluate("test", reason="final figure")
    assert evaluation["metrics"] is not None
    assert evaluation["metrics"]["accuracy"] > 0.9
    assert evaluation["rows"] == 360
    look = stack.client.datasets.ledger("digits")[-1]
    assert (look["job"], look["why"]) == (job.id, "final figure")
    assert look["looks_before"] == evaluation["looks_before"]
    stack.finish(job)
    assert "test_accuracy" in mlflow_points(stack, job.id)


def test_each_source_that_was_asked_for_a_dataset_is_named(stack: Stack) -> None:
    """Where none has it, as without a network, its job fails and says so; otherwise the last one had it."""
    job = stack.submit(digits() | {"dataset": "mnist", "preprocessing": {"scale": 255}})
    datasets = stack.client.datasets
    until(lambda: datasets.get("mnist")["state"] in {"ready", "rejected"}, 120, "sources were asked")
    found = datasets.get("mnist")
    *failed, last = found["sources"]
    assert all(source["why"] for source in failed)
    if found["state"] == "ready":
        assert last["why"] is None
        job.cancel()
        return
    assert (job.refresh().state, job.reason) == ("failed", "bad_data")
    for source in found["sources"]:
        assert source["name"] in str(job.data["detail"])


def test_a_diverging_job_fails_and_keeps_its_finite_epochs(stack: Stack) -> None:
    spec = digits()
    spec["compile"]["optimizer"] = {"type": "SGD", "learning_rate": 1e30}
    spec["compile"]["loss"] = "sparse_categorical_crossentropy"
    job = stack.finish(stack.submit(spec))
    assert (job.state, job.reason) == ("failed", "diverged")
    assert len(job.attempts()) == 1


def test_a_stack_that_is_stopped_goes_on_where_it_was(tmp_path: Path, golden: list[dict[str, Any]]) -> None:
    home = tmp_path / "home"
    with running_stack(home) as first:
        job_id = first.submit(digits(epochs=LONG)).id
        until(lambda: len(first.sql_history(job_id)) > 5, 60, "some epochs are done")
        family = first.family()
        assert first.stop() < 15
        assert still_there(family) == []
    with sqlite3.connect(home / "trainshed.db") as connection:
        state = connection.execute("select state, reason from jobs where id = ?", [job_id]).fetchone()
    assert state == ("queued", "deploy")
    with running_stack(home) as second:
        job = second.finish(second.client.job(job_id))
        assert job.state == "succeeded"
        assert without_times(second.sql_history(job_id)) == golden
        assert_all_agree(second, job_id, LONG)
        assert [attempt["reason"] for attempt in job.attempts()] == ["deploy", "finished"]


def test_the_main_job_on_postgres(tmp_path: Path) -> None:
    with (
        running_postgres() as server,
        running_service(tmp_path / "home", server.create("service")) as service,
    ):
        jobs = [service.submit(digits(epochs=3) | {"seed": seed}) for seed in range(3)]
        for job in jobs:
            service.finish(job)
            assert job.state == "succeeded"
            assert_all_agree(service, job.id, 3)
        assert jobs[0].evaluate("test", reason="final figure")["state"] == "succeeded"

"""Trainer processes as a supervisor sees them, and the numbers they give beside those of stock Keras.

TensorFlow is imported once, in a forkserver; all that needs it runs in fresh processes forked from there.
"""

import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.spec import EarlyStopping, TrainSpec
from services.states import Reason, Split
from worker import entry, events
from worker.trainers import PRELOAD
from worker.versions import store_version

SECONDS = 120
LAYERS = [
    "Flatten",
    {"type": "Dense", "units": 16, "activation": "relu"},
    {"type": "Dense", "units": 3, "activation": "softmax"},
]
DROPOUT_LAYERS = [LAYERS[0], LAYERS[1], {"type": "Dropout", "rate": 0.3}, LAYERS[2]]


def context() -> Any:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOAD)
    return found


def make_images(root: Path, rows: int = 500) -> dict[str, Any]:
    random = np.random.default_rng(3)
    prototypes = random.integers(0, 256, (3, 4, 4))

    def draw(count: int) -> tuple[Any, Any]:
        y = random.integers(0, 3, count).astype(np.uint8)
        return np.clip(prototypes[y] + random.normal(0, 80, (count, 4, 4)), 0, 255).astype(np.uint8), y

    (x, y), (x_test, y_test) = draw(rows), draw(60)
    schema = DatasetSchema(
        name="images",
        task=Task.MULTICLASS,
        features=Features(shape=(4, 4), dtype="uint8"),
        target=Target(shape=(), dtype="uint8", names=["kind"], class_names=["a", "b", "c"]),
        rows=Rows(train=rows, test=60),
    )
    return stored(root, schema, {"train/x": x, "train/y": y, "test/x": x_test, "test/y": y_test})


def make_table(root: Path, rows: int = 300) -> dict[str, Any]:
    random = np.random.default_rng(4)
    x = (random.normal(size=(rows, 5)) * [1, 10, 100, 0.1, 5] + 3).astype(np.float32)
    y = (x @ np.array([1, 0.1, 0.01, 5, 0.2]) + random.normal(0, 0.1, rows)).astype(np.float32)
    schema = DatasetSchema(
        name="table",
        task=Task.REGRESSION,
        features=Features(shape=(5,), dtype="float32"),
        target=Target(shape=(), dtype="float32", names=["amount"]),
        rows=Rows(train=rows - 50, test=50),
    )
    parts = {"train/x": x[:-50], "train/y": y[:-50], "test/x": x[-50:], "test/y": y[-50:]}
    return stored(root, schema, parts)


def stored(root: Path, schema: DatasetSchema, arrays: dict[str, Any]) -> dict[str, Any]:
    version = store_version(root, schema, arrays)
    path = str(root / "datasets" / version)
    return {"name": schema.name, "version": version, "path": path, "schema": schema.model_dump(mode="json")}


def make_spec(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "dataset": "images",
        "split": {"validation": {"last": 70}},
        "preprocessing": {"scale": 255},
        "model": {"layers": LAYERS},
        "compile": {
            "loss": "sparse_categorical_crossentropy",
            "optimizer": {"type": "SGD", "learning_rate": 0.05},
            "metrics": ["accuracy"],
        },
        "fit": {"epochs": 3, "batch_size": 32},
        "evaluate": ["validation", "test"],
        "seed": 42,
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        place = spec
        for name in above:
            place = place[name]
        place[last] = value
    return TrainSpec.model_validate(spec).model_dump(mode="json")


def regression_spec(**changes: Any) -> dict[str, Any]:
    layers = [
        "Normalization",
        {"type": "Dense", "units": 8, "activation": "relu"},
        {"type": "Dense", "units": 1},
    ]
    compiled = {
        "loss": "mse",
        "optimizer": {"type": "Adam", "learning_rate": 0.01},
        "metrics": ["RootMeanSquaredError"],
    }
    of_a_table = {"dataset": "table", "preprocessing": {}, "model": {"layers": layers}, "compile": compiled}
    return make_spec(**of_a_table, **changes)


def make_order(
    root: Path, dataset: dict[str, Any], spec: dict[str, Any] | None = None, **changes: Any
) -> events.TrainOrder:
    job_dir = root / changes.pop("job", "job")
    job_dir.mkdir(parents=True, exist_ok=True)
    facts = {"job": job_dir.name, "fence": 1, "dataset": dataset, "job_dir": str(job_dir)}
    facts |= {"spec": spec or make_spec(), "device": {"kind": "cpu", "threads": 2}}
    return events.TrainOrder.model_validate(facts | changes)


class Trainer:
    """A trainer process and what it said so far."""

    def __init__(self, process: Any, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.said: list[events.Event] = []
        self._arrived: list[events.Event] = []

    def until(self, *kinds: type[events.Event]) -> events.Event:
        deadline = time.monotonic() + SECONDS
        while self._arrived or self.pipe.poll(max(0.0, deadline - time.monotonic())):
            self._arrived = self._arrived or events.decode_all(self.pipe.recv_bytes())
            self.said.append(self._arrived.pop(0))
            if isinstance(self.said[-1], kinds):
                return self.said[-1]
        raise AssertionError(f"the trainer fell silent after {self.said[-3:]}")

    def verdict(self) -> Any:
        return self.until(events.Finished, events.Stopped, events.Failed)

    def history(self) -> list[events.EpochEnded]:
        return [event for event in self.said if isinstance(event, events.EpochEnded)]


@contextmanager
def trainer_for(order: events.Order, log: Path) -> Iterator[Trainer]:
    mine, theirs = context().Pipe()
    output, its_output = context().Pipe(duplex=False)
    process = context().Process(target=entry.main, args=(theirs, its_output, events.encode_order(order)))
    process.start()
    theirs.close()
    its_output.close()
    try:
        yield Trainer(process, mine)
    finally:
        process.kill()
        process.join()
        with log.open("ab") as file:
            while output.poll() and (line := os.read(output.fileno(), 65536)):
                file.write(line)


def run(order: events.Order, root: Path) -> tuple[Any, list[events.EpochEnded], list[events.Event]]:
    with trainer_for(order, root / "log.txt") as trainer:
        verdict = trainer.verdict()
        trainer.process.join(10)
        assert trainer.process.exitcode == 0
    return verdict, trainer.history(), trainer.said


def in_a_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    mine, theirs = context().Pipe()
    process = context().Process(target=_answer, args=(theirs, function, args))
    process.start()
    theirs.close()
    assert mine.poll(SECONDS), f"{function.__name__} gave no answer"
    try:
        answer = mine.recv()
    except EOFError:
        raise AssertionError(f"{function.__name__} failed; its traceback is above") from None
    finally:
        process.join()
    return answer


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    pipe.send(function(*args))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def images(root: Path) -> dict[str, Any]:
    return make_images(root)


@pytest.fixture(scope="module")
def table(root: Path) -> dict[str, Any]:
    return make_table(root)


# What a trainer says


EVENTS = [
    events.Ready(True, "2.21.0", "3.15.1", "2.4.0", "cpu: x86_64", 2),
    events.EngineChosen("xla", "its steps pay for compiling"),
    events.StartedUp({"fork": 0.012, "build": 0.3}),
    events.Resumed(7, "/data/e6-f1.npz"),
    events.CheckpointSkipped("/data/e6-f1.npz", "why"),
    events.Progress(3, 1 / 3, {"loss": 0.1 + 0.2, "accuracy": float(np.float32(0.1))}),
    events.EpochEnded(
        3, {"loss": 5e-324}, 0.001, 0.7, 500, events.SavedCheckpoint("/data/e3-f1.npz", 3, 10, "ab", 0.01)
    ),
    events.Finished(
        [events.SplitMetrics(Split.TEST, {"loss": 1.0}, 60)],
        reason=Reason.STOPPED_EARLY,
        epochs=4,
        best=events.BestEpoch(2, "val_loss", 0.3),
        restored_epoch=2,
        model=events.SavedModel("/data/model.keras", 10, "cd"),
        engine="graph",
        timings={"train": 1.5},
    ),
    events.Stopped(3),
    events.Failed(Reason.OOM_GPU, "too big", "Traceback", 3),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_an_event_survives_the_pipe_bit_for_bit(event: events.Event) -> None:
    assert events.decode(events.encode(event)) == event


def test_values_that_are_not_finite_survive_the_pipe() -> None:
    sent = events.Progress(0, 0.5, {"a": math.inf, "b": -math.inf, "c": math.nan})
    metrics = events.decode(events.encode(sent)).metrics  # type: ignore[attr-defined]
    assert (metrics["a"], metrics["b"], math.isnan(metrics["c"])) == (math.inf, -math.inf, True)


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match="not an event of a trainer"):
        events.decode(b'{"event": "lunch"}')


def test_an_order_survives_the_way_to_the_trainer(root: Path, images: dict[str, Any]) -> None:
    order = make_order(root, images)
    assert events.decode_order(events.encode_order(order)) == order


# A trainer's life


def test_a_warm_trainer_trains_evaluates_and_saves(root: Path, images: dict[str, Any]) -> None:
    assert in_a_fresh_process(int) == 0  # The forkserver is up and has imported TensorFlow.
    began = time.monotonic()
    with trainer_for(make_order(root, images, job="whole"), root / "log.txt") as trainer:
        ready = trainer.until(events.Ready)
        trainer.until(events.EpochEnded)
        seconds = time.monotonic() - began
        finished = trainer.verdict()
    print(f"start to the end of the first epoch: {seconds:.2f} s")
    assert isinstance(ready, events.Ready)
    assert ready.tensorflow_preloaded
    assert ready.threads == 2
    assert seconds < 20
    assert [epoch.epoch for epoch in trainer.history()] == [0, 1, 2]
    assert list(trainer.history()[0].metrics) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert isinstance(finished, events.Finished), finished
    assert (finished.reason, finished.epochs, finished.engine) == (Reason.FINISHED, 3, "graph")
    assert [(e.split, e.rows) for e in finished.evaluations] == [(Split.VALIDATION, 70), (Split.TEST, 60)]
    last = trainer.history()[-1].metrics
    assert finished.evaluations[0].metrics == {name: last[f"val_{name}"] for name in ("accuracy", "loss")}
    assert finished.best == events.BestEpoch(2, "val_loss", last["val_loss"])


# What a train order has and an evaluate order has not.
OF_TRAINING_ALONE = set(events.TrainOrder.model_fields) - set(events.EvaluateOrder.model_fields) | {"kind"}


def test_the_saved_model_takes_raw_inputs_and_evaluates_as_it_did(root: Path, images: dict[str, Any]) -> None:
    order = make_order(root, images, job="saved")
    finished, _, _ = run(order, root)
    model = {"path": finished.model.path, "sha256": finished.model.sha256}
    facts = order.model_dump(mode="json", by_alias=True, exclude=OF_TRAINING_ALONE)
    again, _, _ = run(events.EvaluateOrder.model_validate({**facts, "model": model, "split": "test"}), root)
    assert again.evaluations == finished.evaluations[1:]
    example = np.load(Path(order.job_dir) / "input_example.npy")
    assert (example.dtype, example.shape) == (np.uint8, (5, 4, 4))
    predictions, modules = in_a_fresh_process(predictions_of, finished.model.path, example)
    assert np.allclose(predictions.sum(axis=1), 1)
    assert all(module.startswith("keras") for module in modules)


def predictions_of(path: str, x: Any) -> tuple[Any, list[str]]:
    import keras

    model = keras.saving.load_model(path, safe_mode=True)
    return model.predict(x, verbose=0), [type(layer).__module__ for layer in model.layers]


def test_a_model_file_that_changed_is_not_evaluated(root: Path, images: dict[str, Any]) -> None:
    order = make_order(root, images, job="changed")
    finished, _, _ = run(order, root)
    facts = order.model_dump(mode="json", by_alias=True, exclude=OF_TRAINING_ALONE)
    model = {"path": finished.model.path, "sha256": "0" * 64}
    verdict, _, _ = run(events.EvaluateOrder.model_validate({**facts, "model": model, "split": "test"}), root)
    assert (type(verdict), verdict.reason) == (events.Failed, Reason.INFRASTRUCTURE)


def test_a_trainer_ends_when_its_supervisor_is_gone(root: Path, images: dict[str, Any]) -> None:
    order = make_order(root, images, make_spec(fit__epochs=10_000), job="orphan")
    with trainer_for(order, root / "log.txt") as trainer:
        trainer.until(events.EpochEnded)
        trainer.pipe.close()
        trainer.process.join(2)
        assert trainer.process.exitcode == entry.SUPERVISOR_IS_GONE


@pytest.mark.parametrize("how", ["command", "SIGTERM"])
def test_a_trainer_asked_to_stop_keeps_its_last_whole_epoch(
    root: Path, images: dict[str, Any], how: str
) -> None:
    order = make_order(root, images, make_spec(fit__epochs=10_000), job=f"stop-{how}")
    with trainer_for(order, root / "log.txt") as trainer:
        trainer.until(events.EpochEnded)
        if how == "command":
            trainer.pipe.send_bytes(events.STOP)
        else:
            trainer.process.terminate()
        asked = time.monotonic()
        stopped = trainer.verdict()
    assert time.monotonic() - asked < 10
    assert stopped == events.Stopped(len(trainer.history()))


def test_divergence_ends_the_job_and_keeps_the_finite_epochs(root: Path, table: dict[str, Any]) -> None:
    optimizer = {"type": "SGD", "learning_rate": 1.5}
    spec = regression_spec(compile__optimizer=optimizer, fit__epochs=500)
    verdict, history, _ = run(make_order(root, table, spec, job="diverged"), root)
    assert (type(verdict), verdict.reason) == (events.Failed, Reason.DIVERGED)
    assert f"in epoch {len(history) + 1} " in verdict.message
    assert "learning rate 1.5" in verdict.message
    assert all(math.isfinite(epoch.metrics["loss"]) for epoch in history)


def test_a_loss_that_does_not_fit_the_outputs_is_a_bad_spec(root: Path, images: dict[str, Any]) -> None:
    spec = make_spec(compile__loss="categorical_crossentropy", model__layers=["Flatten", LAYERS[2]])
    verdict, _, _ = run(make_order(root, images, spec, job="bad"), root)
    assert (type(verdict), verdict.reason) == (events.Failed, Reason.BAD_SPEC)


def test_a_disk_that_cannot_be_written_is_infrastructure(root: Path, images: dict[str, Any]) -> None:
    order = make_order(root, images, job="disk")
    (Path(order.job_dir) / "checkpoints").write_bytes(b"in the way")
    verdict, _, _ = run(order, root)
    assert (type(verdict), verdict.reason) == (events.Failed, Reason.INFRASTRUCTURE)
    assert "checkpoints" in verdict.message


# Exact resume


RESUMED: dict[str, dict[str, Any]] = {
    "dropout and early stopping": {
        "model__layers": DROPOUT_LAYERS,
        "compile__optimizer": {"type": "Adam", "learning_rate": 0.01},
        "fit__early_stopping": {"monitor": "val_accuracy", "patience": 2, "restore_best_weights": True},
    },
    "moving averages of weights": {
        "compile__optimizer": {"type": "AdamW", "use_ema": True, "ema_overwrite_frequency": 7},
        "model__layers": ["Flatten", "BatchNormalization", *LAYERS[1:]],
    },
}


@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_run_equals_a_straight_one_bit_for_bit(
    root: Path, images: dict[str, Any], kind: str
) -> None:
    short, whole = (make_spec(fit__epochs=n, **RESUMED[kind]) for n in (3, 6))
    straight, history, _ = run(make_order(root, images, whole, job=f"{kind}-a"), root)
    _, first, _ = run(make_order(root, images, short, job=f"{kind}-b"), root)
    files = [known(epoch) for epoch in reversed(first) if epoch.checkpoint]
    order = make_order(root, images, whole, job=f"{kind}-b", fence=2, checkpoints=files)
    resumed, second, said = run(order, root)
    assert events.Resumed(3, files[0]["path"]) in said
    assert rows_of(first + second) == rows_of(history)
    assert checkpoint_arrays(second[-1]) == checkpoint_arrays(history[-1])
    assert resumed.evaluations == straight.evaluations
    assert (resumed.best, resumed.restored_epoch) == (straight.best, straight.restored_epoch)

    order = make_order(root, images, whole, job=f"{kind}-b", fence=3, checkpoints=[known(second[-1])])
    nothing_left, third, _ = run(order, root)
    assert third == []
    assert nothing_left.evaluations == straight.evaluations


def test_a_damaged_checkpoint_is_skipped_for_the_one_before_it(root: Path, images: dict[str, Any]) -> None:
    _, history, _ = run(make_order(root, images, job="damaged"), root)
    files = [known(epoch) for epoch in reversed(history) if epoch.checkpoint]
    kept = [file for file in files if Path(file["path"]).exists()]
    content = bytearray(Path(kept[0]["path"]).read_bytes())
    content[100] ^= 1
    Path(kept[0]["path"]).write_bytes(content)
    order = make_order(root, images, job="damaged", fence=2, checkpoints=kept)
    verdict, again, said = run(order, root)
    skipped = [event.path for event in said if isinstance(event, events.CheckpointSkipped)]
    assert skipped == [kept[0]["path"]]
    assert rows_of(again) == rows_of(history[kept[1]["epoch"] + 1 :])
    assert isinstance(verdict, events.Finished)


def known(epoch: events.EpochEnded) -> dict[str, Any]:
    saved = epoch.checkpoint
    assert saved is not None
    return {"path": saved.path, "epoch": saved.epoch, "sha256": saved.sha256}


def rows_of(history: list[events.EpochEnded]) -> list[Any]:
    return [(epoch.epoch, epoch.metrics, epoch.learning_rate) for epoch in history]


def checkpoint_arrays(epoch: events.EpochEnded) -> dict[str, bytes]:
    assert epoch.checkpoint is not None
    with np.load(epoch.checkpoint.path, allow_pickle=False) as stored:
        arrays = {name: stored[name].tobytes() for name in stored.files if name != "about"}
        facts = json.loads(stored["about"].tobytes())["facts"]
    return arrays | {"early stopping": json.dumps(facts["early_stopping"]).encode()}


# The same numbers as stock Keras


STOCK: dict[str, tuple[str, str, dict[str, Any]]] = {
    "classes, graph": ("images", "graph", {"fit__class_weight": {"a": 2.0, "c": 0.5}}),
    "classes, xla": ("images", "xla", {}),
    "regression, graph": ("table", "graph", {}),
    "regression, xla": ("table", "xla", {"compile__optimizer": {"type": "Adam", "clipnorm": 0.5}}),
    "averaged weights": ("table", "graph", {"compile__optimizer": {"type": "Adam", "use_ema": True}}),
    "averaged weights, keras": ("table", "keras", {"compile__optimizer": {"type": "Adam", "use_ema": True}}),
}


@pytest.mark.parametrize("kind", STOCK)
def test_an_epoch_gives_the_numbers_of_stock_fit(
    root: Path, images: dict[str, Any], table: dict[str, Any], kind: str
) -> None:
    data, engine, changes = STOCK[kind]
    spec = make_spec(**changes) if data == "images" else regression_spec(**changes)
    dataset = images if data == "images" else table
    ours, theirs, distance = in_a_fresh_process(beside_stock_fit, spec, dataset, engine)
    assert list(ours) == list(theirs)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert distance < 1e-5


def beside_stock_fit(spec_: dict[str, Any], dataset: dict[str, Any], engine: str) -> tuple[Any, Any, float]:
    from worker.training.building import adapt, build_model, weights_of
    from worker.training.engine import make_engine
    from worker.training.evaluating import Splits
    from worker.training.finishing import settle_weights
    from worker.training.seeds import shuffled

    spec = TrainSpec.model_validate(spec_)
    splits = Splits(events.DatasetPlace.model_validate(dataset), spec)
    ours, stock = (build_model(spec, splits.schema) for _ in range(2))
    for model in (ours, stock):
        adapt(model, splits.unsealed, splits.cut.train)
    order = shuffled(splits.cut.train, 42, 0)
    loop = make_engine(engine, ours, spec.fit.batch_size)
    trained = loop.train(splits.feed, order, lambda part: None)
    validated = loop.evaluate(splits.feed, splits.cut.validation, lambda part: None)
    settle_weights(ours, None)

    x, y = splits.unsealed.x, splits.unsealed.y
    history = stock.fit(
        x[order],
        y[order],
        batch_size=spec.fit.batch_size,
        shuffle=False,
        verbose=0,
        class_weight=spec.fit.class_weights(splits.schema.target.class_names or ()),
        validation_data=(x[splits.cut.validation], y[splits.cut.validation]),
    ).history
    pairs = zip(weights_of(ours), weights_of(stock), strict=True)
    distance = max(float(np.abs(a.astype(float) - b).max()) for a, b in pairs)
    metrics = trained | {f"val_{name}": value for name, value in validated.items()}
    return metrics, {name: values[0] for name, values in history.items()}, distance


RULES: list[dict[str, Any]] = [
    {"monitor": "val_loss", "patience": 2},
    {"monitor": "val_loss", "patience": 0, "restore_best_weights": True},
    {"monitor": "val_accuracy", "patience": 3, "min_delta": 0.05, "restore_best_weights": True},
    {"monitor": "val_loss", "patience": 2, "baseline": 0.5, "restore_best_weights": True},
    {"monitor": "accuracy", "patience": 1, "mode": "min", "start_from_epoch": 3},
    {"monitor": "loss", "patience": 2, "start_from_epoch": 20, "restore_best_weights": True},
]


def test_early_stopping_decides_as_keras_does() -> None:
    ours, theirs = in_a_fresh_process(early_stopping_beside_keras, RULES)
    assert ours == theirs


def early_stopping_beside_keras(rules: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    import keras

    from worker.training.early_stopping import Stopper, direction_of

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["accuracy"])
    model.test_step((np.zeros((2, 1)), np.zeros((2, 1))))
    metrics = model.metrics[1].metrics
    random = np.random.default_rng(0)
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    ours, theirs = [], []
    for rule in rules * 20:
        logs = [
            {name: float(np.float32(v)) for name, v in zip(names, row, strict=True)}
            for row in random.random((15, 4)).round(1)
        ]
        spec = EarlyStopping.model_validate(rule)
        ours.append(_ours(Stopper(spec, direction_of(spec, metrics)), logs))
        theirs.append(_theirs(keras.callbacks.EarlyStopping(**rule), model, logs))
    return ours, theirs


def _ours(stopper: Any, logs: list[dict[str, float]]) -> tuple[int, float | None]:
    for epoch, values in enumerate(logs):
        # Each epoch goes on from stored state, as after a crash.
        state = json.loads(json.dumps(stopper.to_state()))
        stopper = type(stopper)(stopper.rule, stopper.direction, best_weights=stopper.best_weights)
        stopper.from_state(state, stopper.best_weights)
        stopper.epoch_ended(epoch, values, lambda e=epoch: [np.array(float(e))])
        if stopper.has_stopped:
            break
    return epoch, float(stopper.best_weights[0]) if stopper.best_weights else None


def _theirs(callback: Any, model: Any, logs: list[dict[str, float]]) -> tuple[int, float | None]:
    callback.set_model(model)
    callback.on_train_begin()
    model.stop_training = False
    for epoch, values in enumerate(logs):
        model.set_weights([np.full((1, 1), float(epoch)), np.zeros(1)])
        callback.on_epoch_end(epoch, values)
        if model.stop_training:
            break
    return epoch, float(callback.best_weights[0][0, 0]) if callback.best_weights else None


@pytest.mark.parametrize(
    ("error", "is_gpu", "reason"),
    [
        ("ResourceExhaustedError", True, Reason.OOM_GPU),
        ("ResourceExhaustedError", False, Reason.OOM_HOST),
        ("InvalidArgumentError", True, Reason.BAD_DATA),
        ("InternalError", True, Reason.INFRASTRUCTURE),
    ],
)
def test_a_failure_of_tensorflow_has_a_reason(error: str, is_gpu: bool, reason: Reason) -> None:
    assert in_a_fresh_process(reason_for, error, is_gpu) == reason


def reason_for(error: str, is_gpu: bool) -> Reason:
    import tensorflow as tf

    from worker.training.verdicts import verdict_on

    return verdict_on(getattr(tf.errors, error)(None, None, "no"), is_gpu=is_gpu).reason

"""Data and specs at the edge of what can be trained: a clear verdict, or all numbers, never some of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.states import Reason
from tests.test_engines_agree import ENGINES, Told
from tests.test_training import in_a_fresh_process, make_order, make_spec, run, stored
from worker import events

ROWS, HELD_OUT = 40, 10
DENSE = {"type": "Dense", "units": 4, "activation": "relu"}


def make_rows(root: Path, count: int = ROWS, *, test: int = 0, **changes: Any) -> dict[str, Any]:
    """Rows of three classes, or with an amount `y`; `changes` are arrays.

    The store refuses NaN and strange class ids, so they get into its files behind its back.
    """
    random = np.random.default_rng(8)
    x = random.normal(size=(count + test, 5)).astype(np.float32)
    y = changes.get("y", (np.arange(count + test) % 3).astype(np.uint8))
    x = changes.get("x", x)
    is_amount = y.dtype.kind == "f"
    schema = DatasetSchema(
        name="rows",
        task=Task.REGRESSION if is_amount else Task.MULTICLASS,
        features=Features(shape=(5,), dtype=str(x.dtype)),
        target=Target(
            shape=y.shape[1:],
            dtype=str(y.dtype),
            names=["target"],
            class_names=None if is_amount else ["a", "b", "c"],
        ),
        rows=Rows(train=count, test=test),
    )
    good = np.nan_to_num(x, posinf=0), np.nan_to_num(y, posinf=0) if is_amount else y % 3
    dataset = stored(root, schema, _parts(*good, count))
    for name, array in _parts(x, y, count).items():
        np.save(Path(dataset["path"]) / f"{name}.npy", array)
    return dataset


def _parts(x: Any, y: Any, count: int) -> dict[str, Any]:
    return {"train/x": x[:count], "train/y": y[:count], "test/x": x[count:], "test/y": y[count:]}


def spec_of(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "preprocessing": {},
        "split": {"validation": {"last": HELD_OUT}},
        "model": {"layers": [DENSE, {"type": "Dense", "units": 3, "activation": "softmax"}]},
        "fit__batch_size": 8,
        "evaluate": [],
    }
    return make_spec(**(usual | changes))


def amount_spec(**changes: Any) -> dict[str, Any]:
    compiled = {"loss": "mse", "optimizer": {"type": "SGD", "learning_rate": 0.01}}
    return spec_of(
        **({"model": {"layers": [DENSE, {"type": "Dense", "units": 1}]}, "compile": compiled} | changes)
    )


def with_a(value: float, row: int, *, dtype: type = np.float32) -> Any:
    array = np.random.default_rng(9).normal(size=(ROWS, 5)).astype(dtype)
    array[row, 2] = value
    return array


def ids_with(value: int, *shape: int) -> Any:
    ids = np.arange(ROWS) % 3
    ids[5] = value
    return ids.reshape(ROWS, *shape)


def amounts_with(value: float, row: int) -> Any:
    return with_a(value, row)[:, 2]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], Reason, str]] = {
    **{
        f"NaN in a training row, {engine}": (
            {"x": with_a(math.nan, 3)},
            spec_of(fit__engine=engine),
            Reason.BAD_DATA,
            "In epoch 1 loss became nan",
        )
        for engine in ENGINES
    },
    "infinity in a training row": (
        {"x": with_a(math.inf, 3)},
        spec_of(),
        Reason.BAD_DATA,
        "holds NaN or infinite",
    ),
    "NaN in a validation row": (
        {"x": with_a(math.nan, ROWS - 1)},
        spec_of(),
        Reason.BAD_DATA,
        "val_loss became nan",
    ),
    "NaN among training targets": ({"y": amounts_with(math.nan, 3)}, amount_spec(), Reason.BAD_DATA, "NaN"),
    "NaN where an activation makes it 0": (
        {"x": with_a(math.nan, 3)},
        spec_of(
            model__layers=[
                {**DENSE, "activation": "hard_shrink"},
                {"type": "Dense", "units": 3, "activation": "softmax"},
            ]
        ),
        Reason.BAD_DATA,
        "holds NaN or infinite",
    ),
    "infinity among validation targets": (
        {"y": amounts_with(math.inf, ROWS - 1)},
        amount_spec(),
        Reason.BAD_DATA,
        "val_loss became inf",
    ),
    "a class id too many": ({"y": ids_with(3)}, spec_of(), Reason.BAD_DATA, "from 0 to 3; it has 3 classes"),
    "a negative class id": ({"y": ids_with(-1)}, spec_of(), Reason.BAD_DATA, "from -1 to 2"),
    "a class id that int32 would take for 0": (
        {"y": ids_with(2**32)},
        spec_of(),
        Reason.BAD_DATA,
        "4294967296",
    ),
    "a class id too many, in a column": ({"y": ids_with(3, 1)}, spec_of(), Reason.BAD_DATA, "from 0 to 3"),
    "no row": ({"count": 0}, spec_of(split={}), Reason.BAD_DATA, "no rows to train on"),
    "no row but those held out": ({"count": HELD_OUT}, spec_of(), Reason.BAD_DATA, "leave some to train on"),
    "no sealed row": ({}, spec_of(evaluate=["test"], fit__epochs=1), Reason.BAD_SPEC, "no test rows"),
    "inputs beyond float16": (
        {"x": with_a(1e6, 3)},
        spec_of(model__dtype_policy="mixed_float16"),
        Reason.DIVERGED,
        "inputs scaled to about -1 to 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_says_why(tmp_path: Path, case: str) -> None:
    arrays, spec, reason, words = REFUSED[case]
    order = make_order(tmp_path, make_rows(tmp_path, **arrays), spec)
    verdict, history, _ = run(order, tmp_path)
    assert (type(verdict), verdict.reason) == (events.Failed, reason), verdict
    assert words in verdict.message
    assert len(history) == (1 if case == "no sealed row" else 0)


TRAINED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f"a batch larger than the data, {engine}": ({}, spec_of(fit__batch_size=1000, fit__engine=engine))
        for engine in ENGINES
    },
    "a single row": ({"count": 1}, spec_of(split={})),
    "a row to train on and one held out": ({"count": 2}, spec_of(split__validation={"last": 1})),
    "a single row, normalized": (
        {"count": 1},
        spec_of(
            split={},
            model__layers=[
                "Normalization",
                "BatchNormalization",
                {"type": "Dense", "units": 3, "activation": "softmax"},
            ],
        ),
    ),
    "a class that no training row has": (
        {"y": np.repeat([0, 1, 2], [15, 15, 10])},
        spec_of(fit__class_weight={"c": 3.0}, evaluate=["train", "validation"]),
    ),
}


@pytest.mark.parametrize("case", TRAINED)
def test_little_data_is_trained_on_as_any(tmp_path: Path, case: str) -> None:
    arrays, spec = TRAINED[case]
    order = make_order(tmp_path, make_rows(tmp_path, **arrays), spec)
    verdict, history, _ = run(order, tmp_path)
    assert isinstance(verdict, events.Finished), verdict
    assert len(history) == 3
    assert all(math.isfinite(value) for epoch in history for value in epoch.metrics.values())


def test_gradients_beyond_float16_lower_the_scale_of_the_loss(tmp_path: Path) -> None:
    spec = amount_spec(model__dtype_policy="mixed_float16", fit__epochs=4)
    dataset = make_rows(tmp_path, y=np.full(ROWS, 50, np.float32))
    epochs, scale = in_a_fresh_process(scaled_loss, events.encode_order(make_order(tmp_path, dataset, spec)))
    assert scale < 2**15
    assert epochs[-1]["loss"] < epochs[0]["loss"]


def scaled_loss(order: bytes) -> tuple[list[dict[str, float]], float]:
    import keras

    from worker.training.trainer import carry_out

    made: list[Any] = []
    scaling = keras.optimizers.LossScaleOptimizer
    keras.optimizers.LossScaleOptimizer = lambda inner: made.append(scaling(inner)) or made[-1]
    told = Told()
    verdict = carry_out(events.decode_order(order), told, tensorflow_preloaded=True)
    assert isinstance(verdict, events.Finished), verdict
    return told.epochs, float(made[0].dynamic_scale)


def test_a_gpu_without_room_is_named(tmp_path: Path) -> None:
    order = make_order(tmp_path, make_rows(tmp_path), spec_of(), device={"kind": "gpu", "index": 0})
    verdict, epochs = in_a_fresh_process(on_a_full_gpu, events.encode_order(order))
    assert (verdict.reason, epochs) == (Reason.OOM_GPU, [])
    assert "smaller batch" in verdict.message


def on_a_full_gpu(order: bytes) -> tuple[Any, list[Any]]:
    import keras
    import tensorflow as tf

    from worker.training import device, trainer

    def refuse(*_: Any, **__: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "Out of memory while trying to allocate")

    device.set_up = lambda _: device.Place("gpu 0: none", 2, is_gpu=True)  # type: ignore[assignment]
    keras.Model.train_step = refuse
    told = Told()
    return trainer.carry_out(events.decode_order(order), told, tensorflow_preloaded=True), told.epochs


def test_what_xla_cannot_compile_names_the_engine(tmp_path: Path) -> None:
    order = make_order(tmp_path, make_rows(tmp_path), spec_of(fit__engine="xla"))
    verdict, epochs = in_a_fresh_process(with_texts_in_the_model, events.encode_order(order))
    assert (verdict.reason, epochs) == (Reason.BAD_SPEC, [])
    assert "`fit.engine`" in verdict.message


def with_texts_in_the_model(order: bytes) -> tuple[Any, list[Any]]:
    import keras
    import tensorflow as tf

    from worker.training.trainer import carry_out

    call = keras.layers.Dense.call

    def calls(layer: Any, inputs: Any, training: Any = None) -> Any:
        text = tf.strings.as_string(tf.stop_gradient(tf.reduce_sum(inputs)))
        return call(layer, inputs, training) + 0 * tf.strings.to_number(text)

    keras.layers.Dense.call = calls
    told = Told()
    return carry_out(events.decode_order(order), told, tensorflow_preloaded=True), told.epochs

"""A dataset's own weights, times the spec's class weights, weigh the loss as Keras's sample_weight does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.spec import TrainSpec
from tests.test_training import in_a_fresh_process, make_spec, stored
from worker import events
from worker.versions import DamagedVersion, SchemaMismatch, content_sha256, store_version, verify_version

CLASS_WEIGHTS = {"a": 2.0, "c": 0.5}


def make_weighed(root: Path) -> dict[str, Any]:
    """300 rows of three classes; the weights of 250 of them, some 0."""
    schema, arrays = _weighed()
    return stored(root, schema, arrays)


def _weighed() -> tuple[DatasetSchema, dict[str, Any]]:
    random = np.random.default_rng(6)
    x = random.normal(size=(300, 5)).astype(np.float32)
    y = random.integers(0, 3, 300).astype(np.uint8)
    w = (random.integers(0, 5, 250) / 2).astype(np.float32)
    schema = DatasetSchema(
        name="weighed",
        task=Task.MULTICLASS,
        features=Features(shape=(5,), dtype="float32"),
        target=Target(shape=(), dtype="uint8", names=["kind"], class_names=["a", "b", "c"]),
        rows=Rows(train=250, test=50),
        weight="w",
    )
    return schema, {
        "train/x": x[:250],
        "train/y": y[:250],
        "train/w": w,
        "test/x": x[250:],
        "test/y": y[250:],
    }


@pytest.mark.parametrize("class_weight", [None, CLASS_WEIGHTS])
def test_an_epoch_is_weighed_as_by_stock_fit(tmp_path: Path, class_weight: dict[str, float] | None) -> None:
    spec = make_spec(preprocessing={}, fit__class_weight=class_weight)
    ours, theirs = in_a_fresh_process(beside_stock_fit, spec, make_weighed(tmp_path))
    assert ours == pytest.approx(theirs, rel=1e-4)


def beside_stock_fit(spec_: dict[str, Any], dataset: dict[str, Any]) -> tuple[Any, Any]:
    from worker.training.building import build_model
    from worker.training.engine import make_engine
    from worker.training.evaluating import Splits

    spec = TrainSpec.model_validate(spec_)
    splits = Splits(events.DatasetPlace.model_validate(dataset), spec)
    ours, stock = (build_model(spec, splits.schema) for _ in range(2))
    loop, order = make_engine("graph", ours, spec.fit.batch_size), splits.cut.train
    trained = loop.train(splits.feed, order, lambda part: None)
    validated = loop.evaluate(splits.feed, splits.cut.validation, lambda part: None)

    table = splits.unsealed
    assert table.w is not None
    by_class = spec.fit.class_weights(splits.schema.target.class_names or ()) or {}
    weights = table.w[order] * np.array([by_class.get(int(id_), 1.0) for id_ in table.y[order]])
    history = stock.fit(
        table.x[order],
        table.y[order],
        sample_weight=weights,
        batch_size=spec.fit.batch_size,
        shuffle=False,
        verbose=0,
        validation_data=(table.x[splits.cut.validation], table.y[splits.cut.validation]),
    ).history
    metrics = trained | {f"val_{name}": value for name, value in validated.items()}
    return metrics, {name: values[0] for name, values in history.items()}


def test_weights_are_part_of_a_version(tmp_path: Path) -> None:
    schema, arrays = _weighed()
    version = store_version(tmp_path, schema, arrays)
    verify_version(tmp_path, version)
    other = arrays | {"train/w": arrays["train/w"] + 1}
    assert store_version(tmp_path, schema, other) != version
    plain = schema.model_copy(update={"weight": None})
    assert content_sha256(plain, arrays) == content_sha256(plain, other) != version
    with pytest.raises(SchemaMismatch, match="negative"):
        store_version(tmp_path, schema, arrays | {"train/w": -arrays["train/w"]})
    with pytest.raises(SchemaMismatch, match="train/w is"):
        store_version(tmp_path, schema, arrays | {"train/w": arrays["train/w"][1:]})
    weights = tmp_path / "datasets" / version / "train" / "w.npy"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(DamagedVersion):
        verify_version(tmp_path, version)

"""Which rows are for training and which for validation."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.spec import SplitSpec
from worker.training.data import (
    Table,
    class_weights_of,
    cut,
    has_only_finite_inputs,
    open_sealed,
    open_unsealed,
)
from worker.training.problems import BadData
from worker.versions import store_version


def make_table(rows: int = 150, classes: int = 3) -> Table:
    y = np.random.default_rng(1).integers(0, classes, rows).astype(np.uint8)
    return Table(np.arange(rows, dtype=np.float32).reshape(rows, 1), y)


def split_spec(**validation: object) -> SplitSpec:
    return SplitSpec.model_validate({"validation": validation})


def test_the_last_rows_are_cut_in_stored_order() -> None:
    found = cut(make_table(10), split_spec(last=3), seed=42)
    assert found.train.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found.validation.tolist() == [7, 8, 9]


def test_without_a_validation_split_every_row_is_trained_on() -> None:
    found = cut(make_table(10), SplitSpec(), seed=42)
    assert (len(found.train), len(found.validation)) == (10, 0)


@pytest.mark.parametrize("seed", [0, 42, 12345])
@pytest.mark.parametrize(
    ("way", "test_size"), [({"fraction": 0.1}, 0.1), ({"fraction": 0.333}, 0.333), ({"count": 37}, 37)]
)
@pytest.mark.parametrize("stratify", [False, True])
def test_rows_drawn_are_those_of_train_test_split(
    way: dict[str, float], test_size: float, stratify: bool, seed: int
) -> None:
    table = make_table()
    found = cut(table, split_spec(**way, stratify=stratify), seed)
    train, validation = train_test_split(
        np.arange(len(table)),
        test_size=test_size,
        random_state=seed,
        stratify=table.y if stratify else None,
    )
    assert found.train.tolist() == train.tolist()
    assert found.validation.tolist() == validation.tolist()


def test_a_split_with_a_seed_of_its_own_does_not_follow_the_jobs_seed() -> None:
    table = make_table()
    one, other = (cut(table, split_spec(fraction=0.2, seed=7), seed) for seed in (1, 2))
    assert one.validation.tolist() == other.validation.tolist()


def test_a_class_of_one_row_cannot_be_stratified() -> None:
    table = Table(np.zeros((5, 1), np.float32), np.array([0, 0, 0, 0, 1], np.uint8))
    with pytest.raises(BadData, match="two rows of each class"):
        cut(table, split_spec(fraction=0.4, stratify=True), seed=42)


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(BadData, match="10 validation rows cannot be cut from 10 rows"):
        cut(make_table(10), split_spec(last=10), seed=42)


def test_class_weights_reach_ids_and_one_hot_rows_alike() -> None:
    ids = np.array([0, 2, 1, 2], np.uint8)
    expected = [1.0, 3.0, 0.5, 3.0]
    weights = {0: 1.0, 1: 0.5, 2: 3.0}
    assert class_weights_of(ids, weights).tolist() == expected
    assert class_weights_of(np.eye(3)[ids], weights).tolist() == expected
    assert class_weights_of(ids.reshape(-1, 1), weights).tolist() == expected


def test_inputs_that_are_not_finite_are_found() -> None:
    bad = Table(np.array([[1.0], [np.nan]], np.float32), np.zeros(2, np.float32))
    assert not has_only_finite_inputs(bad)
    assert has_only_finite_inputs(make_table())


def make_version(root: Path) -> tuple[Path, DatasetSchema]:
    schema = DatasetSchema(
        name="numbers",
        task=Task.MULTICLASS,
        features=Features(shape=(2,), dtype="float32"),
        target=Target(shape=(), dtype="int64", names=["kind"], class_names=["a", "b"]),
        rows=Rows(train=4, test=2),
    )
    arrays = {
        "train/x": np.ones((4, 2), np.float32),
        "train/y": np.array([0, 1, 0, 1]),
        "test/x": np.zeros((2, 2), np.float32),
        "test/y": np.array([1, 0]),
    }
    return root / "datasets" / store_version(root, schema, arrays), schema


def test_training_needs_no_test_files(tmp_path: Path) -> None:
    folder, schema = make_version(tmp_path)
    for file in (folder / "test").iterdir():
        file.unlink()
    assert len(open_unsealed(folder, schema)) == 4
    with pytest.raises(FileNotFoundError):
        open_sealed(folder, schema)


def test_arrays_that_are_not_what_the_schema_says_are_bad_data(tmp_path: Path) -> None:
    folder, schema = make_version(tmp_path)
    longer = schema.model_copy(update={"rows": Rows(train=5, test=2)})
    with pytest.raises(BadData, match=r"holds arrays of shape \(4, 2\)"):
        open_unsealed(folder, longer)


def test_a_class_id_without_a_class_is_bad_data(tmp_path: Path) -> None:
    folder, schema = make_version(tmp_path)
    target = schema.target.model_copy(update={"class_names": ["a"]})
    with pytest.raises(BadData, match="go from 0 to 1; it has 1 classes"):
        open_unsealed(folder, schema.model_copy(update={"target": target}))


def test_an_npy_file_that_needs_pickle_is_bad_data(tmp_path: Path) -> None:
    folder, schema = make_version(tmp_path)
    (folder / "train" / "x.npy").unlink()
    np.save(folder / "train" / "x.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(BadData, match=r"train/x\.npy"):
        open_unsealed(folder, schema)

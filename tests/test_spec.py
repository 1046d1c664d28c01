"""The spec: short forms, defaults written out, and a dump that reads back as itself."""

import re
from pathlib import Path
from typing import Any

import pytest

from services.checking import check
from services.documents import read_document
from services.spec import FitSpec, FractionOfRows, ModelSpec, TrainSpec
from services.states import Split
from tests.specs import FASHION, GONE, HOUSING, make_document, make_layers, make_schema

PAGE = Path(__file__).parents[1] / "docs" / "spec.md"
SHOWN = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))

KINDS = {"fit": FitSpec, "model": ModelSpec}


def make_spec(base: dict[str, Any] = FASHION, **changes: Any) -> TrainSpec:
    return check(make_document(base, **changes), None)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_read_and_their_dump_reads_back_as_itself(path: Path) -> None:
    spec = check(read_document(path.read_bytes(), "application/yaml", limit=10**6), None)
    dump = spec.model_dump(mode="json")
    assert check(dump, None) == spec
    assert check(dump, None).model_dump(mode="json") == dump


@pytest.mark.parametrize("text", SHOWN)
def test_what_the_page_shows_is_a_spec(text: str) -> None:
    check(read_document(text.encode(), "application/yaml", limit=10**6), make_schema())


def test_every_key_of_fit_and_of_model_has_its_line_on_the_page() -> None:
    lines = set(re.findall(r"^\| `((?:fit|model)\.\w+)`", PAGE.read_text(), re.MULTILINE))
    assert lines == {f"{name}.{key}" for name, kind in KINDS.items() for key in kind.model_fields}


def test_a_dump_writes_every_default_out() -> None:
    dump = make_spec().model_dump(mode="json")
    assert dump["model"]["layers"][1] == {
        "type": "Dense",
        "name": "dense",
        "units": 300,
        "activation": "relu",
        "use_bias": True,
        "kernel_initializer": {"type": "GlorotUniform"},
        "bias_initializer": {"type": "Zeros"},
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
    }
    assert dump["compile"]["optimizer"]["momentum"] == 0.0
    assert dump["compile"]["loss"]["from_logits"] is False
    assert dump["fit"]["early_stopping"] is None
    assert dump["evaluate"] == ["validation"]


@pytest.mark.parametrize("spelling", ["Dense", "dense", "DENSE"])
def test_a_type_is_known_by_its_class_and_by_its_snake_case(spelling: str) -> None:
    spec = make_spec(model__layers__1={"type": spelling, "units": 3})
    assert spec.model.layers[1].type == "Dense"


@pytest.mark.parametrize(
    ("key", "written", "meant"),
    [
        ("kernel_initializer", "he_normal", {"type": "HeNormal"}),
        ("kernel_initializer", {"type": "constant", "value": 1}, {"type": "Constant", "value": 1.0}),
        ("kernel_regularizer", "l2", {"type": "L2", "l2": 0.01}),
        ("kernel_regularizer", "L1L2", {"type": "L1L2", "l1": 0.0, "l2": 0.0}),
        ("bias_constraint", "non_neg", {"type": "NonNeg"}),
        ("activation", "swish", "silu"),
        ("activation", None, "linear"),
    ],
)
def test_short_forms_are_written_out(key: str, written: Any, meant: Any) -> None:
    spec = make_spec(**{f"model__layers__1__{key}": written})
    assert spec.model_dump(mode="json")["model"]["layers"][1][key] == meant


@pytest.mark.parametrize(
    ("written", "type_", "column"),
    [
        ("accuracy", "accuracy", "accuracy"),
        ("acc", "accuracy", "acc"),
        ("mse", "MeanSquaredError", "mse"),
        ("RootMeanSquaredError", "RootMeanSquaredError", "RootMeanSquaredError"),
        ({"type": "RootMeanSquaredError"}, "RootMeanSquaredError", "root_mean_squared_error"),
        ({"type": "AUC", "name": "area"}, "AUC", "area"),
    ],
)
def test_a_metric_is_called_as_keras_would_call_it(written: object, type_: str, column: str) -> None:
    (metric,) = make_spec(compile__metrics=[written]).compile.metrics
    assert (metric.type, metric.name) == (type_, column)


def test_layers_get_keras_names_unless_they_have_their_own() -> None:
    layers = ["Flatten", *[{"type": "Dense", "units": 3}] * 3, "BatchNormalization", "BatchNormalization"]
    layers[2] = {"type": "Dense", "units": 3, "name": "dense"}
    names = [layer.name for layer in make_spec(model=make_layers(*layers)).model.layers]
    assert names == ["flatten", "dense_1", "dense", "dense_2", "batch_normalization", "batch_normalization_1"]


def test_without_a_validation_split_nothing_is_evaluated() -> None:
    assert make_spec(split=GONE).evaluate == ()
    assert make_spec().evaluate == (Split.VALIDATION,)


def test_the_name_is_the_datasets_if_left_out() -> None:
    spec = make_spec(name=GONE, dataset="fashion_mnist@0123456789abcdef")
    assert spec.name == spec.dataset_name == "fashion_mnist"
    assert spec.dataset_version == "0123456789abcdef"


def test_a_seed_is_also_the_seed_of_a_split_without_one() -> None:
    seeded = make_spec(HOUSING).with_seed(7)
    assert seeded.seed == 7
    assert isinstance(seeded.split.validation, FractionOfRows)
    assert seeded.split.validation.seed == 7
    own = make_spec(HOUSING, split__validation__seed=3).with_seed(7)
    assert own.split.validation == FractionOfRows(fraction=0.25, seed=3)
    assert check(seeded.model_dump(mode="json"), None) == seeded


def test_class_weights_may_name_classes_or_ids() -> None:
    names = ["cat", "dog", "1"]
    fit = make_spec(fit__class_weight={"dog": 2, "0": 3, "1": 4}).fit
    assert fit.class_weights(names) == {0: 3.0, 1: 2.0, 2: 4.0}
    assert make_spec(fit__class_weight={0: 3}).fit.class_weights(names) == {0: 3.0, 1: 1.0, 2: 1.0}


def test_fractions_round_up_as_in_scikit_learn() -> None:
    assert FractionOfRows(fraction=0.25).rows(16_513) == 4_129


def test_a_spec_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_spec().seed = 3

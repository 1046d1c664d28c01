"""Shapes and parameter counts by arithmetic, against figures worked out by hand."""

from typing import Any

import pytest

from services.checking import check
from services.shapes import ShapeMismatch, model_layers, output_shape, parameters, place, summarize
from tests.specs import HOUSING, make_document, make_housing, make_layers, make_schema


def test_the_headline_model() -> None:
    summary = summarize(check(make_document(), None), make_schema())
    assert [(x.name, x.output_shape, x.params) for x in summary.layers] == [
        ("rescaling", [None, 28, 28], 0),
        ("flatten", [None, 784], 0),
        ("dense", [None, 300], 235_500),
        ("dense_1", [None, 100], 30_100),
        ("dense_2", [None, 10], 1_010),
    ]
    assert (summary.params, summary.trainable_params, summary.non_trainable_params) == (266_610, 266_610, 0)
    assert "Total params: 266,610 (1.02 MB)" in summary.text


def test_normalization_counts_mean_variance_and_its_count() -> None:
    spec = check(make_document(HOUSING), None)
    first = place(spec, make_housing())[0]
    assert (first.trainable, first.non_trainable) == (0, 17)
    assert parameters(spec, make_housing()) == 17 + 9 * 50 + 51


@pytest.mark.parametrize(
    ("layer", "counts"),
    [
        ({"type": "Dense", "units": 5, "use_bias": False}, (40, 0)),
        ({"type": "Normalization", "axis": None}, (0, 3)),
        ("BatchNormalization", (16, 16)),
        ({"type": "BatchNormalization", "scale": False}, (8, 16)),
        ({"type": "BatchNormalization", "renorm": True, "center": False}, (8, 40)),
        ({"type": "Dropout", "rate": 0.5}, (0, 0)),
    ],
)
def test_counts_by_layer(layer: Any, counts: tuple[int, int]) -> None:
    spec = check(make_document(HOUSING, model=make_layers(layer, {"type": "Dense", "units": 1})), None)
    placed = place(spec, make_housing())[0]
    assert (placed.trainable, placed.non_trainable) == counts


def test_dense_works_along_the_last_axis() -> None:
    spec = check(make_document(HOUSING, model=make_layers({"type": "Dense", "units": 3})), None)
    assert output_shape(spec, make_schema()) == (28, 3)


def test_rescaling_stands_in_front_where_inputs_are_divided() -> None:
    front, *_ = model_layers(check(make_document(), None))
    assert front.keras_config() == {
        "class_name": "Rescaling",
        "config": {"name": "rescaling", "scale": 1 / 255, "offset": 0.0},
    }
    assert next(iter(model_layers(check(make_document(HOUSING), None)))).name == "normalization"


@pytest.mark.parametrize("axis", [2, -3, 0, -2])
def test_an_axis_that_cannot_be_kept_is_a_mismatch(axis: int) -> None:
    layers = make_layers({"type": "BatchNormalization", "axis": axis}, {"type": "Dense", "units": 1})
    with pytest.raises(ShapeMismatch):
        place(check(make_document(HOUSING, model=layers), None), make_housing())

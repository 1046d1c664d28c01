"""From a model's outputs to what they say, and its comparison with the truth."""

from typing import Any

import numpy as np
import pytest

from services.outputs import Form, Link, Outputs, outputs_of
from services.schema import Task
from services.spec import TrainSpec
from tests.specs import make_document, make_housing, make_layers, make_schema
from worker.events import TargetScaling
from worker.training.outcomes import MOST_CLASSES, MOST_POINTS, outcome_of
from worker.training.readout import Readout
from worker.training.scaling import in_own_units, measure, scaled

LABELS = ("red", "green", "blue")
BINARY = make_schema(Task.BINARY, features=(4,), classes=2)
ONE_HOT = make_schema(features=(4,), target=(3,), classes=3)
IDS = make_schema(features=(4,), classes=3)
MANY = make_schema(Task.MULTILABEL, features=(4,), target=(3,), classes=3)
NUMBERS = make_housing(target=(2,))


def outputs(schema: Any, loss: Any, units: int, activation: str = "linear") -> Outputs:
    layers = make_layers({"type": "Dense", "units": units, "activation": activation})
    changes = {"model": layers, "compile__loss": loss, "compile__metrics": [], "preprocessing": {}}
    return outputs_of(TrainSpec.model_validate(make_document(**changes)), schema)


@pytest.mark.parametrize(
    ("schema", "loss", "units", "activation", "form", "link", "boundary"),
    [
        (NUMBERS, "mse", 2, "linear", Form.VALUES, None, 0.0),
        (BINARY, "binary_crossentropy", 1, "sigmoid", Form.YES, Link.IDENTITY, 0.5),
        (
            BINARY,
            {"type": "BinaryCrossentropy", "from_logits": True},
            1,
            "linear",
            Form.YES,
            Link.SIGMOID,
            0.5,
        ),
        (BINARY, "mse", 1, "sigmoid", Form.YES, Link.IDENTITY, 0.5),
        (BINARY, "mse", 1, "linear", Form.YES, None, 0.5),
        (BINARY, "hinge", 1, "tanh", Form.YES, None, 0.0),
        (BINARY, "sparse_categorical_crossentropy", 2, "softmax", Form.CLASSES, Link.IDENTITY, 0.5),
        (IDS, "sparse_categorical_crossentropy", 3, "softmax", Form.CLASSES, Link.IDENTITY, 0.5),
        (
            IDS,
            {"type": "SparseCategoricalCrossentropy", "from_logits": True},
            3,
            "linear",
            Form.CLASSES,
            Link.SOFTMAX,
            0.5,
        ),
        (ONE_HOT, "categorical_hinge", 3, "linear", Form.CLASSES, None, 0.5),
        (ONE_HOT, "mse", 3, "softmax", Form.CLASSES, Link.IDENTITY, 0.5),
        (MANY, "binary_crossentropy", 3, "sigmoid", Form.LABELS, Link.IDENTITY, 0.5),
        (MANY, "hinge", 3, "linear", Form.LABELS, None, 0.0),
    ],
)
def test_loss_activation_and_task_tell_how_outputs_are_read(
    schema: Any, loss: Any, units: int, activation: str, form: Form, link: Link | None, boundary: float
) -> None:
    found = outputs(schema, loss, units, activation)
    assert (found.form, found.link, found.boundary) == (form, link, boundary)


def test_logits_become_probabilities_also_when_they_are_large() -> None:
    classes = Readout(
        Outputs(Form.CLASSES, Link.SOFTMAX, 0.5, LABELS), np.array([[1e4, 0.0, -1e4], [0, 0, 0]])
    )
    np.testing.assert_allclose(classes.probabilities, [[1, 0, 0], [1 / 3] * 3])
    yes = Readout(Outputs(Form.YES, Link.SIGMOID, 0.5, ("no", "yes")), np.array([[-1e4], [0.0], [1e4]]))
    np.testing.assert_allclose(yes.probabilities, [[1, 0], [0.5, 0.5], [0, 1]])
    assert yes.classes().tolist() == [0, 1, 1]


def test_outputs_that_are_no_probabilities_still_tell_the_class() -> None:
    raw = np.array([[-0.2], [0.3]])
    for boundary, classes in ((0.0, [0, 1]), (0.5, [0, 0])):
        rows = Readout(Outputs(Form.YES, None, boundary, ("no", "yes")), raw).rows()
        assert [row["class"] for row in rows] == classes
        assert all("probabilities" not in row for row in rows)


def test_a_row_with_a_number_that_is_none_has_no_class() -> None:
    found = Readout(
        Outputs(Form.CLASSES, Link.IDENTITY, 0.5, LABELS), np.array([[np.nan, 0.5, 0.5], [0, 0, 1]])
    )
    assert found.rows(top_k=1) == [
        {"probabilities": [None, 0.5, 0.5]},
        {
            "class": 2,
            "class_name": "blue",
            "probabilities": [0.0, 0.0, 1.0],
            "top_k": [{"id": 2, "class_name": "blue", "probability": 1.0}],
        },
    ]
    values = Readout(Outputs(Form.VALUES, None, 0.0, ("a", "b")), np.array([[np.inf, 1.5]]))
    assert values.rows() == [{"values": {"a": None, "b": 1.5}}]


def test_a_threshold_that_is_not_named_stays_one_half() -> None:
    found = Readout(Outputs(Form.LABELS, Link.IDENTITY, 0.5, LABELS), np.array([[0.4, 0.5, 0.6]]))
    assert found.rows()[0]["labels"] == ["green", "blue"]
    assert found.rows(thresholds={"red": 0.3, "blue": 0.7})[0]["labels"] == ["red", "green"]
    assert found.rows(thresholds=0.6)[0]["labels"] == ["blue"]


def test_of_two_classes_with_an_output_each_the_second_has_the_threshold() -> None:
    found = Readout(Outputs(Form.CLASSES, Link.IDENTITY, 0.5, ("no", "yes")), np.array([[0.4, 0.6]]))
    assert (found.classes().tolist(), found.classes(0.7).tolist()) == ([1], [0])


@pytest.mark.parametrize("way", ["standardize", "min_max"])
def test_scaled_targets_come_back_in_their_own_units(way: Any) -> None:
    targets = np.array([[1.0, 7.0], [3.0, 7.0], [8.0, 7.0]])
    scaling = measure(way, targets)
    assert scaling is not None
    small = scaled(targets, scaling)
    expected = (0.0, 1.0) if way == "standardize" else (small[:, 0].mean(), small[:, 0].std())
    assert (small[:, 0].mean(), small[:, 0].std()) == pytest.approx(expected, abs=1e-6)
    assert (small[:, 0].min() == 0, small[:, 0].max() == 1) == (way == "min_max", way == "min_max")
    assert small[:, 1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(in_own_units(small, scaling), targets, rtol=1e-6)


def test_without_scaling_targets_stay_the_very_same() -> None:
    targets = np.array([1, 2, 3], np.uint8)
    assert measure(None, targets) is None
    assert scaled(targets, None) is targets


def test_confusion_counts_true_classes_in_rows_and_predicted_ones_in_columns() -> None:
    truth, raw = np.array([0, 0, 1, 2]), np.eye(3)[[0, 1, 1, 0]]
    found = outcome_of(
        Outputs(Form.CLASSES, Link.IDENTITY, 0.5, LABELS), lambda rows: raw[rows], truth, np.arange(4), None
    )
    assert found == {"confusion": {"class_names": list(LABELS), "counts": [[1, 1, 0], [0, 1, 0], [1, 0, 0]]}}
    one_hot = outcome_of(
        Outputs(Form.CLASSES, None, 0.5, LABELS), lambda rows: raw[rows], np.eye(3)[truth], np.arange(4), None
    )
    assert one_hot == found


def test_a_scatter_holds_evenly_chosen_points_and_figures_of_all_rows() -> None:
    truth = np.arange(10_000.0)
    scaling = TargetScaling([100.0], [2.0])
    found = outcome_of(
        Outputs(Form.VALUES, None, 0.0, ("y",)),
        lambda rows: truth[rows, None],
        truth,
        np.arange(10_000),
        scaling,
    )
    assert found is not None
    (scatter,) = found["scatter"]
    assert len(scatter["true"]) == MOST_POINTS
    assert (scatter["true"][0], scatter["true"][-1]) == (0.0, 9_999.0)
    assert scatter["predicted"][-1] == 9_999 * 2 + 100
    # The figures are over all rows.
    assert (scatter["rows"], scatter["mean_absolute_error"]) == (10_000, pytest.approx(5_099.5))
    assert scatter["r2"] == pytest.approx(
        1 - ((truth + 100) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    )


def test_so_many_classes_that_no_picture_could_show_them_are_not_counted() -> None:
    names = tuple(map(str, range(MOST_CLASSES + 1)))
    assert (
        outcome_of(Outputs(Form.CLASSES, None, 0.5, names), lambda _: 1 / 0, np.zeros(1), np.arange(1), None)
        is None
    )

"""How a model's predictions compare with the truth: counts of classes and labels, or points of a scatter."""

from collections.abc import Callable
from typing import Any

import numpy as np

from services.answers import Confusion, LabelCounts, Outcome, Scatter
from services.outputs import Form, Outputs
from worker.events import TargetScaling
from worker.training.data import Array, RowIds
from worker.training.readout import Readout

MOST_CLASSES = 500
"""Of more classes no counts are kept: a row of them is a picture's pixel."""
MOST_POINTS = 2_000

Predict = Callable[[RowIds], Array]
"""Raw outputs of rows, in their order."""


def outcome_of(
    outputs: Outputs, predict: Predict, truth: Array, rows: RowIds, scaling: TargetScaling | None
) -> dict[str, Any] | None:
    """services.answers.Outcome as JSON over these rows of a table whose targets, as stored, are `truth`."""
    if outputs.form is Form.VALUES:
        outcome = Outcome(scatter=_scatter(outputs, Readout(outputs, predict(rows), scaling), truth[rows]))
    elif len(outputs.names) > MOST_CLASSES:
        return None
    elif outputs.form is Form.LABELS:
        outcome = Outcome(labels=_label_counts(outputs, Readout(outputs, predict(rows)), truth[rows]))
    else:
        outcome = Outcome(confusion=_confusion(outputs, Readout(outputs, predict(rows)), truth[rows]))
    return outcome.model_dump(mode="json", exclude_none=True)


def _scatter(outputs: Outputs, found: Readout, truth: Array) -> list[Scatter]:
    true = np.asarray(truth, np.float64).reshape(len(truth), -1)[found.is_finite]
    predicted = found.values[found.is_finite]
    return [_points(name, true[:, place], predicted[:, place]) for place, name in enumerate(outputs.names)]


def _points(target: str, true: Array, predicted: Array) -> Scatter:
    drawn = _evenly(len(true))
    errors = predicted - true
    spread = float(((true - true.mean()) ** 2).sum()) if len(true) else 0.0
    return Scatter(
        target=target,
        rows=len(true),
        r2=1 - float((errors**2).sum()) / spread if spread else None,
        mean_absolute_error=float(np.abs(errors).mean()) if len(true) else None,
        true=true[drawn].tolist(),
        predicted=predicted[drawn].tolist(),
    )


def _evenly(count: int) -> RowIds:
    return np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64)


def _label_counts(outputs: Outputs, found: Readout, truth: Array) -> list[LabelCounts]:
    there, predicted = truth[found.is_finite] > 0, found.labels()[found.is_finite]
    counts = zip(
        outputs.names,
        (there & predicted).sum(axis=0).tolist(),
        (~there & predicted).sum(axis=0).tolist(),
        (~there & ~predicted).sum(axis=0).tolist(),
        (there & ~predicted).sum(axis=0).tolist(),
        strict=True,
    )
    return [
        LabelCounts(label=name, true_positives=tp, false_positives=fp, true_negatives=tn, false_negatives=fn)
        for name, tp, fp, tn, fn in counts
    ]


def _confusion(outputs: Outputs, found: Readout, truth: Array) -> Confusion:
    count = len(outputs.names)
    pairs = class_ids(truth)[found.is_finite] * count + found.classes()[found.is_finite]
    counts = np.bincount(pairs, minlength=count * count).reshape(count, count)
    return Confusion(class_names=list(outputs.names), counts=counts.tolist())


def class_ids(targets: Array) -> Array:
    """The class of each row; of a one-hot row the largest column."""
    columns = np.asarray(targets).reshape(len(targets), -1)
    return np.argmax(columns, axis=1) if columns.shape[1] > 1 else columns[:, 0].astype(np.int64)

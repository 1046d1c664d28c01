"""From a model's outputs to what they say: probabilities, classes, labels, values. NumPy only."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.outputs import Form, Link, Outputs
from worker.events import TargetScaling
from worker.training.data import Array
from worker.training.scaling import in_own_units

Thresholds = float | Mapping[str, float] | None


class Readout:
    """The outputs of some rows, read as the model's spec and dataset say. `raw` is (rows, outputs)."""

    def __init__(self, outputs: Outputs, raw: Array, scaling: TargetScaling | None = None) -> None:
        self._outputs = outputs
        self._raw = np.asarray(raw).reshape(len(raw), -1)
        self._scaling = scaling
        self.is_finite: Array = np.isfinite(self._raw).all(axis=1)
        """Whether all outputs of the row are numbers."""
        self.probabilities: Array | None = self._probabilities()
        """(rows, classes or labels); None where the outputs make none."""

    def _probabilities(self) -> Array | None:
        link = self._outputs.link
        if link is None or self._outputs.form is Form.VALUES:
            return None
        linked = _linked(link, self._raw)
        return np.hstack([1 - linked, linked]) if self._outputs.form is Form.YES else linked

    @property
    def values(self) -> Array:
        """(rows, targets) in their own units."""
        return in_own_units(self._raw, self._scaling)

    def classes(self, thresholds: Thresholds = None) -> Array:
        """Ids (rows,): the most probable class, or the second of two from its threshold on."""
        outputs = self._outputs
        boundary = self._boundary(outputs.names[-1], thresholds)
        if self.probabilities is None:
            yes = self._raw[:, 0] >= boundary
            return np.argmax(self._raw, axis=1) if outputs.form is Form.CLASSES else yes.astype(np.int64)
        if outputs.form is Form.YES or (thresholds is not None and len(outputs.names) == 2):
            return (self.probabilities[:, 1] >= boundary).astype(np.int64)
        return np.argmax(self.probabilities, axis=1)

    def labels(self, thresholds: Thresholds = None) -> Array:
        """Whether each label is there: (rows, labels)."""
        boundaries = [self._boundary(name, thresholds) for name in self._outputs.names]
        found = self._raw if self.probabilities is None else self.probabilities
        return np.asarray(found >= np.array(boundaries, found.dtype))

    def _boundary(self, name: str, thresholds: Thresholds) -> float:
        if isinstance(thresholds, Mapping):
            return thresholds.get(name, self._outputs.boundary)
        return self._outputs.boundary if thresholds is None else thresholds

    def rows(self, top_k: int | None = None, thresholds: Thresholds = None) -> list[dict[str, Any]]:
        """One services.answers.Predicted a row as JSON, without what is null."""
        if self._outputs.form is Form.VALUES:
            names = self._outputs.names
            return [{"values": dict(zip(names, _plain(row), strict=True))} for row in self.values]
        rows = self._labelled(thresholds) if self._outputs.form is Form.LABELS else self._classed(thresholds)
        if self.probabilities is not None:
            for row, found in zip(rows, self.probabilities, strict=True):
                row["probabilities"] = _plain(found)
            if top_k is not None:
                self._add_top(rows, self.probabilities, top_k)
        return rows

    def _classed(self, thresholds: Thresholds) -> list[dict[str, Any]]:
        names = self._outputs.names
        return [
            {"class": id_, "class_name": names[id_]} if is_finite else {}
            for id_, is_finite in zip(self.classes(thresholds).tolist(), self.is_finite, strict=True)
        ]

    def _labelled(self, thresholds: Thresholds) -> list[dict[str, Any]]:
        names = self._outputs.names
        return [
            {"labels": [names[place] for place in np.flatnonzero(row)]} if is_finite else {}
            for row, is_finite in zip(self.labels(thresholds), self.is_finite, strict=True)
        ]

    def _add_top(self, rows: list[dict[str, Any]], probabilities: Array, top_k: int) -> None:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k].tolist()
        for row, found, ids, is_finite in zip(rows, probabilities, order, self.is_finite, strict=True):
            if is_finite:
                row["top_k"] = [
                    {"id": id_, "class_name": self._outputs.names[id_], "probability": float(found[id_])}
                    for id_ in ids
                ]


def _linked(link: Link, raw: Array) -> Array:
    # Infinite logits are marked by is_finite; NumPy need not warn of them.
    with np.errstate(over="ignore", invalid="ignore"):
        if link is Link.SIGMOID:
            return 1 / (1 + np.exp(-raw))
        if link is Link.SOFTMAX:
            powers = np.exp(raw - raw.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
    return raw


def _plain(row: Array) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in row.tolist()]

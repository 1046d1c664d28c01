"""Targets of a regression, scaled for training and brought back to their own units."""

import numpy as np

from services.spec import TargetScalingName
from worker.events import TargetScaling
from worker.training.data import Array


def measure(way: TargetScalingName | None, targets: Array) -> TargetScaling | None:
    """Offset and scale from the training rows' targets; a target that is always the same has the scale 1."""
    if way is None:
        return None
    columns = np.asarray(targets, np.float64).reshape(len(targets), -1)
    if way == "standardize":
        offset, scale = columns.mean(axis=0), columns.std(axis=0)
    else:
        offset, scale = columns.min(axis=0), np.ptp(columns, axis=0)
    return TargetScaling(offset.tolist(), np.where(scale > 0, scale, 1.0).tolist())


def scaled(targets: Array, scaling: TargetScaling | None) -> Array:
    """What the model learns: (target - offset) / scale, in the same shape."""
    if scaling is None:
        return targets
    columns = np.asarray(targets, np.float64).reshape(len(targets), -1)
    return ((columns - scaling.offset) / scaling.scale).reshape(targets.shape).astype(np.float32)


def in_own_units(outputs: Array, scaling: TargetScaling | None) -> Array:
    """Outputs (rows, targets) as estimates: output x scale + offset, in float64."""
    values = np.asarray(outputs, np.float64)
    return values if scaling is None else values * scaling.scale + scaling.offset

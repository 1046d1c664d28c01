"""Output shapes and parameter counts by arithmetic, equal to Keras's own, without TensorFlow."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from services.answers import LayerSummary, Summary
from services.errors import TrainshedError
from services.layers import BatchNormalization, Dense, Flatten, Layer, Normalization, Rescaling
from services.schema import DatasetSchema
from services.spec import TrainSpec

Shape = tuple[int, ...]
BYTES_A_PARAMETER = 4


class ShapeMismatch(TrainshedError):
    """A layer cannot take what the layer before gives; `str(error)` is half a sentence.

    `index` counts in `model_layers`.
    """

    def __init__(self, index: int, argument: str, message: str, expected: str) -> None:
        self.index = index
        self.argument = argument
        self.expected = expected
        super().__init__(message)


@dataclass(frozen=True)
class Placed:
    """A layer where it stands: the shapes of one example, without the batch axis, and its parameters."""

    layer: Layer
    input_shape: Shape
    output_shape: Shape
    trainable: int
    non_trainable: int

    @property
    def parameters(self) -> int:
        """All of them, as in Keras's summary."""
        return self.trainable + self.non_trainable


def model_layers(spec: TrainSpec) -> tuple[Layer, ...]:
    """The layers of the Keras model in order: preprocessing in front, then the spec's own."""
    scale = spec.preprocessing.scale
    front = () if scale is None else (Rescaling(name="rescaling", scale=1 / scale),)
    return (*front, *spec.model.layers)


def place(spec: TrainSpec, schema: DatasetSchema) -> tuple[Placed, ...]:
    """Each layer with its shapes for this dataset. Raises ShapeMismatch."""
    return tuple(_placed(model_layers(spec), schema.features.shape))


def parameters(spec: TrainSpec, schema: DatasetSchema) -> int:
    """How many parameters the model has."""
    return sum(placed.parameters for placed in place(spec, schema))


def output_shape(spec: TrainSpec, schema: DatasetSchema) -> Shape:
    """The shape of one prediction, without the batch axis."""
    return place(spec, schema)[-1].output_shape


def summarize(spec: TrainSpec, schema: DatasetSchema) -> Summary:
    """The model's summary as Keras gives it before training."""
    placed = place(spec, schema)
    trainable = sum(p.trainable for p in placed)
    non_trainable = sum(p.non_trainable for p in placed)
    return Summary(
        layers=[_row(p) for p in placed],
        params=trainable + non_trainable,
        trainable_params=trainable,
        non_trainable_params=non_trainable,
        text=_text(placed, trainable, non_trainable),
    )


def _placed(layers: tuple[Layer, ...], shape: Shape) -> Iterator[Placed]:
    for index, layer in enumerate(layers):
        after = math.prod(shape) if isinstance(layer, Flatten) else None
        trainable, non_trainable = _parameters(layer, shape, index)
        result = _output(layer, shape) if after is None else (after,)
        yield Placed(layer, shape, result, trainable, non_trainable)
        shape = result


def _output(layer: Layer, shape: Shape) -> Shape:
    return (*shape[:-1], layer.units) if isinstance(layer, Dense) else shape


def _parameters(layer: Layer, shape: Shape, index: int) -> tuple[int, int]:
    match layer:
        case Dense(units=units, use_bias=use_bias):
            if not shape:
                message = "an example is one number, and Dense needs a row of them"
                raise ShapeMismatch(index, "type", message, "Flatten in front of it")
            return shape[-1] * units + units * use_bias, 0
        case Normalization(axis=axis):
            # mean and variance, and a count that Keras keeps for older saved models
            return 0, 2 * _width(shape, axis, index) + 1
        case BatchNormalization(axis=axis):
            width = _width(shape, axis, index)
            return width * (layer.scale + layer.center), width * (5 if layer.renorm else 2)
        case _:
            return 0, 0


def _width(shape: Shape, axis: int | None, index: int) -> int:
    if axis is None:
        return 1
    axes = 1 + len(shape)
    if not -axes <= axis < axes:
        raise ShapeMismatch(index, "axis", f"the data has {axes} axes here, so none is called {axis}", "-1")
    if axis % axes == 0:
        raise ShapeMismatch(index, "axis", f"axis {axis} is the batch, whose size is not fixed", "-1")
    return shape[axis % axes - 1]


def _row(placed: Placed) -> LayerSummary:
    return LayerSummary(
        name=placed.layer.name or "",
        type=placed.layer.type,
        output_shape=[None, *placed.output_shape],
        params=placed.parameters,
        trainable_params=placed.trainable,
    )


def _text(placed: tuple[Placed, ...], trainable: int, non_trainable: int) -> str:
    # Keras counts the memory of float32 weights, and of each Normalization's count as an int64.
    counters = sum(isinstance(p.layer, Normalization) for p in placed)
    head = ("Layer (type)", "Output Shape", "Param #")
    rows = [(_title(p), str((None, *p.output_shape)), f"{p.parameters:,}") for p in placed]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(3)]
    table = [
        _line(head, widths),
        "  ".join("-" * width for width in widths),
        *(_line(r, widths) for r in rows),
    ]
    totals = [
        f"Total params: {_sized(trainable + non_trainable, counters)}",
        f"Trainable params: {_sized(trainable)}",
        f"Non-trainable params: {_sized(non_trainable, counters)}",
    ]
    return "\n".join(['Model: "model"', *table, "", *totals, ""])


def _title(placed: Placed) -> str:
    return f"{placed.layer.name} ({placed.layer.type})"


def _line(cells: tuple[str, str, str], widths: list[int]) -> str:
    name, shape, count = cells
    return f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}"


def _sized(count: int, counters: int = 0) -> str:
    size = float((count + counters) * BYTES_A_PARAMETER)
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{count:,} ({size:.2f} {unit})"
        size /= 1024
    return f"{count:,} ({size:.2f} GB)"

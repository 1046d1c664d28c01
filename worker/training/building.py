"""From a spec to a compiled Keras model made of Keras's own layers."""

from typing import Any

import keras
import numpy as np

from services.schema import DatasetSchema
from services.spec import TrainSpec
from worker.training.data import Array, RowIds, Table
from worker.training.problems import BadSpec
from worker.training.seeds import seed_initial_weights

ROWS_AT_ONCE = 8192


def build_model(spec: TrainSpec, schema: DatasetSchema) -> Any:
    """The compiled model, initial weights drawn from the spec's seed; Normalization is not adapted yet."""
    seed_initial_weights(seed_of(spec))
    try:
        model = keras.Sequential([_input_of(spec, schema), *_layers_of(spec)], name="model")
        model.compile(
            optimizer=_optimizer_of(spec),
            loss=_made(keras.losses, spec.compile.loss.keras_config()),
            metrics=[_metric(metric.keras_metric()) for metric in spec.compile.metrics],
        )
        make_metrics(model, schema)
        model.optimizer.build(model.trainable_variables)
    except (ValueError, TypeError) as error:
        raise BadSpec(f"Keras cannot build this model: {error}") from error
    return model


def make_metrics(model: Any, schema: DatasetSchema) -> None:
    """Let a compiled model make its metrics, as Keras does at the first batch; proves that shapes fit."""
    x, truth = _zeros(schema.features), _zeros(schema.target)
    outputs = keras.ops.zeros((2, *model.output_shape[1:]))
    model.compute_loss(x, truth, outputs, None, training=False)
    model.compute_metrics(x, truth, outputs)
    model.reset_metrics()


def seed_of(spec: TrainSpec) -> int:
    """The seed of a resolved spec."""
    if spec.seed is None:
        raise BadSpec("A resolved spec has a seed.")
    return spec.seed


def _input_of(spec: TrainSpec, schema: DatasetSchema) -> Any:
    # Rescaling casts whole numbers. Without it the input has to: Dropout refuses them, LayerNormalization
    # learns nothing from them, and BatchNormalization rounds its outputs to them.
    keeps_dtype = spec.preprocessing.scale is not None
    return keras.Input(schema.features.shape, dtype=schema.features.dtype if keeps_dtype else None)


def _layers_of(spec: TrainSpec) -> list[Any]:
    scale = spec.preprocessing.scale
    front = [] if scale is None else [keras.layers.Rescaling(1 / scale, name="rescaling")]
    configs = [layer.keras_config() for layer in spec.model.layers]
    # The last layer and what prepares the inputs stay in 32 bits.
    for config in configs[:-1]:
        if config["class_name"] != "Normalization":
            config["config"]["dtype"] = spec.model.dtype_policy
    return front + [_made(keras.layers, config) for config in configs]


def _optimizer_of(spec: TrainSpec) -> Any:
    optimizer = _made(keras.optimizers, spec.compile.optimizer.keras_config())
    # As Keras's compile does for a model whose own policy this is.
    needs_scaling = spec.model.dtype_policy == "mixed_float16"
    return keras.optimizers.LossScaleOptimizer(optimizer) if needs_scaling else optimizer


def _made(module: Any, config: dict[str, Any]) -> Any:
    return getattr(module, config["class_name"])(**config["config"])


def _metric(name_or_config: str | dict[str, Any]) -> Any:
    return name_or_config if isinstance(name_or_config, str) else _made(keras.metrics, name_or_config)


def _zeros(part: Any) -> Any:
    return keras.ops.zeros((2, *part.shape), dtype=part.dtype)


def adapt(model: Any, table: Table, rows: RowIds) -> None:
    """Let each Normalization layer learn mean and variance from the training rows that reach it."""
    for index, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(_reaching(model, index, table.x[rows]))


def _reaching(model: Any, index: int, x: Array) -> Array:
    if index == 0:
        return x
    before = keras.Model(model.inputs, model.layers[index - 1].output)
    parts = [before(x[i : i + ROWS_AT_ONCE], training=False) for i in range(0, len(x), ROWS_AT_ONCE)]
    return np.concatenate([part.numpy() for part in parts])


def weights_of(model: Any) -> list[Array]:
    """Copies of all weights, trained or not, in the order of the layers."""
    return [np.array(weight) for weight in model.weights]


def set_weights(model: Any, weights: list[Array]) -> None:
    """Assign all weights."""
    for variable, value in zip(model.weights, weights, strict=True):
        variable.assign(value)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()

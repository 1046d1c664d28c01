"""The spec against the installed Keras: names, arguments, defaults, shapes and parameter counts."""

import inspect
from typing import Any, get_args

import pytest

from services import layers, losses, optimizers
from services.checking import check
from services.layers import ACTIVATION_ALIASES, ActivationName, Layer, Rescaling
from services.losses import Loss
from services.metrics import METRICS, Accuracy, Metric
from services.optimizers import Optimizer
from services.schema import DatasetSchema, Task
from services.shapes import summarize
from services.vocabulary import Component
from services.wording import WHY_NOT
from tests.specs import HOUSING, make_document, make_housing, make_layers, make_schema

pytestmark = pytest.mark.slow

ACTIVATIONS = get_args(ActivationName)
NOT_IN_EVERY_SIGNATURE = {
    *("dtype", "trainable", "autocast", "input_shape", "input_dim"),  # any layer's
    *("lr", "decay"),  # older Keras
    *("axis", "input_axes", "output_axes", "name"),
}
ASKED_FOR = {("F1Score", "average"), ("FBetaScore", "average")}
"""Keras's default gives one figure a class; a column of the history is one number."""


def components_of(module: Any, base: type[Component]) -> list[type[Component]]:
    return [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__
        if "type" in c.model_fields and not c.model_fields["type"].is_required()
    ]


def keras_module_of(component: type[Component]) -> Any:
    import keras

    if issubclass(component, Layer):
        return keras.layers
    if issubclass(component, Loss):
        return keras.losses
    if issubclass(component, Optimizer):
        return keras.optimizers
    if issubclass(component, Metric):
        return keras.metrics
    homes = (keras.initializers, keras.regularizers, keras.constraints)
    return next(home for home in homes if hasattr(home, component.__name__))


COMPONENTS = [
    *components_of(layers, Component),
    *components_of(losses, Loss),
    *components_of(optimizers, Optimizer),
    *(metric for metric in METRICS if metric is not Accuracy),
]


def plain(value: Any) -> Any:
    names = {"glorot_uniform": "GlorotUniform", "zeros": "Zeros", "ones": "Ones"}
    return value.type if isinstance(value, Component) else names.get(value, value)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_arguments_and_defaults_are_keras_own(component: type[Component]) -> None:
    signature = inspect.signature(getattr(keras_module_of(component), component.__name__).__init__)
    theirs = {
        p.name: p.default
        for p in signature.parameters.values()
        if p.name not in ("self", "name") and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    fields = {key: f for key, f in component.model_fields.items() if key not in ("type", "name")}
    assert set(theirs) - set(component.refused) == set(fields)
    assert set(component.refused) <= set(theirs) | NOT_IN_EVERY_SIGNATURE
    for key, field in fields.items():
        if (component.__name__, key) in ASKED_FOR:
            continue
        required = theirs[key] is inspect.Parameter.empty
        assert field.is_required() == required, key
        if not required and key != "activation":  # None is `linear`
            assert plain(field.default) == plain(theirs[key]), key


def test_metrics_have_keras_names() -> None:
    import keras

    for metric in METRICS:
        if metric is Accuracy or any(f.is_required() for f in metric.model_fields.values()):
            continue
        # Collecting garbage for each metric would take twenty times as long.
        keras.utils.clear_session(free_memory=False)
        assert getattr(keras.metrics, metric.__name__)().name == metric.model_fields["name"].default


def test_activations_are_those_that_keras_has() -> None:
    from keras.src.activations import ALL_OBJECTS_DICT

    assert set(ACTIVATIONS) | set(ACTIVATION_ALIASES) | set(WHY_NOT) == set(ALL_OBJECTS_DICT)


def dense(units: int, **arguments: Any) -> dict[str, Any]:
    return {"type": "Dense", "units": units, **arguments}


SCORES = [
    "mse",
    "rmse",
    "mae",
    "mape",
    "msle",
    "LogCoshError",
    "R2Score",
    {"type": "CosineSimilarity"},
]
SCORED = {"loss": "mse", "optimizer": "adam", "metrics": SCORES}
BINARY = make_schema(Task.BINARY, name="spam", features=(6,), dtype="float32", classes=2)
LABELS = make_schema(Task.MULTILABEL, name="mails", features=(6,), dtype="float32", target=(3,), classes=3)
ONE_HOT = make_schema(name="kinds", features=(4, 3), dtype="float32", target=(5,), classes=5)
YES_OR_NO = [
    "accuracy",
    "BinaryAccuracy",
    "Precision",
    "Recall",
    "AUC",
    "TruePositives",
    "TrueNegatives",
    "FalsePositives",
    "FalseNegatives",
    {"type": "SensitivityAtSpecificity", "specificity": 0.5},
    {"type": "SpecificityAtSensitivity", "sensitivity": 0.5},
    {"type": "PrecisionAtRecall", "recall": 0.5},
    {"type": "RecallAtPrecision", "precision": 0.5},
]


def with_layers(*parts: Any, base: dict[str, Any] = HOUSING, **changes: Any) -> dict[str, Any]:
    return make_document(base, model=make_layers(*parts), **changes)


INITIALIZERS = [
    "zeros",
    "ones",
    {"type": "constant", "value": 0.1},
    "identity",
    "random_normal",
    "truncated_normal",
    "random_uniform",
    "variance_scaling",
    "glorot_uniform",
    "glorot_normal",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
]

BUILT: list[tuple[str, dict[str, Any], DatasetSchema]] = [
    ("headline", make_document(), make_schema()),
    ("housing", make_document(HOUSING), make_housing()),
    ("one dense", with_layers(dense(1)), make_housing()),
    ("no bias", with_layers(dense(3, use_bias=False), dense(1)), make_housing()),
    ("scores", with_layers(dense(1), compile=SCORED), make_housing()),
    (
        "two outputs",
        with_layers(dense(2), compile={**SCORED, "metrics": [*SCORES, "Poisson"]}),
        make_housing(target=(2,)),
    ),
    ("normalization of all", with_layers({"type": "Normalization", "axis": None}, dense(1)), make_housing()),
    (
        "normalization of rows",
        with_layers({"type": "Normalization", "axis": 1}, "Flatten", dense(1)),
        make_housing(features=(5, 4)),
    ),
    ("batch normalization", with_layers(dense(4), "BatchNormalization", dense(1)), make_housing()),
    (
        "batch renormalization",
        with_layers(dense(4), {"type": "BatchNormalization", "renorm": True, "scale": False}, dense(1)),
        make_housing(),
    ),
    (
        "renormalization, clipped",
        with_layers(
            {
                "type": "BatchNormalization",
                "renorm": True,
                "renorm_clipping": {"rmax": 3, "rmin": 0.3, "dmax": 5},
            },
            dense(1),
        ),
        make_housing(),
    ),
    (
        "batch normalization with everything",
        with_layers(
            {
                "type": "BatchNormalization",
                "beta_initializer": "he_normal",
                "gamma_regularizer": "l2",
                "beta_regularizer": "l1_l2",
                "gamma_constraint": {"type": "max_norm", "axis": -1},
                "beta_constraint": "unit_norm",
            },
            dense(1),
        ),
        make_housing(),
    ),
    (
        "regularizers and constraints",
        with_layers(
            dense(
                8,
                kernel_regularizer="orthogonal_regularizer",
                bias_regularizer="l1",
                activity_regularizer="l2",
                kernel_constraint={"type": "min_max_norm", "axis": 1},
                bias_constraint="non_neg",
            ),
            dense(1),
        ),
        make_housing(),
    ),
    (
        "initializers",
        with_layers(*[dense(8, kernel_initializer=i) for i in INITIALIZERS], dense(1)),
        make_housing(),
    ),
    (
        "activations",
        with_layers(*[dense(4, activation=a) for a in ACTIVATIONS], dense(1)),
        make_housing(),
    ),
    ("dropout", with_layers({"type": "Dropout", "rate": 0.2}, dense(1, name="price")), make_housing()),
    (
        "ids",
        with_layers(
            "Flatten",
            {"type": "Dropout", "rate": 0.1},
            dense(10, activation="softmax"),
            compile={
                "loss": "sparse_categorical_crossentropy",
                "metrics": ["accuracy", "SparseTopKCategoricalAccuracy"],
            },
        ),
        make_schema(),
    ),
    (
        "yes or no",
        with_layers(
            dense(1, activation="sigmoid"),
            compile={"loss": "binary_focal_crossentropy", "metrics": YES_OR_NO},
        ),
        BINARY,
    ),
    (
        "two units",
        with_layers(
            dense(2, activation="softmax"),
            compile={
                "loss": "sparse_categorical_crossentropy",
                "metrics": ["accuracy", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy"],
            },
        ),
        BINARY,
    ),
    (
        "labels",
        with_layers(
            dense(3, activation="sigmoid"),
            compile={
                "loss": "bce",
                "metrics": [
                    *YES_OR_NO,
                    "Hinge",
                    "SquaredHinge",
                    "BinaryCrossentropy",
                    {"type": "F1Score", "average": "macro"},
                    {"type": "FBetaScore", "average": "micro", "beta": 2},
                ],
            },
        ),
        LABELS,
    ),
    (
        "one-hot",
        with_layers(
            "Flatten",
            dense(5, activation="softmax"),
            compile={
                "loss": {"type": "CategoricalCrossentropy", "label_smoothing": 0.1},
                "metrics": [
                    "accuracy",
                    "CategoricalAccuracy",
                    {"type": "TopKCategoricalAccuracy", "k": 2},
                    "KLDivergence",
                    "CategoricalHinge",
                    "CategoricalCrossentropy",
                ],
            },
        ),
        ONE_HOT,
    ),
    (
        "logits",
        with_layers(
            "Flatten",
            dense(5),
            compile={"loss": {"type": "categorical_focal_crossentropy", "from_logits": True}},
        ),
        ONE_HOT,
    ),
    *[
        (f"loss {loss}", with_layers(dense(1), compile={"loss": loss}), make_housing())
        for loss in ("mae", "mape", "msle", "huber", "log_cosh", "cosine_similarity", "poisson")
    ],
    *[
        (
            f"loss {loss}",
            with_layers("Flatten", dense(5, activation="softmax"), compile={"loss": loss}),
            ONE_HOT,
        )
        for loss in ("kld", "hinge", "squared_hinge", "categorical_hinge")
    ],
    *[
        (
            f"optimizer {o.__name__}",
            with_layers(dense(1), compile={"loss": "mse", "optimizer": o.__name__}),
            make_housing(),
        )
        for o in components_of(optimizers, Optimizer)
    ],
    (
        "optimizer with everything",
        with_layers(
            dense(1),
            compile={
                "loss": "mse",
                "optimizer": {
                    "type": "sgd",
                    "momentum": 1,
                    "nesterov": True,
                    "weight_decay": 0.01,
                    "clipnorm": 1,
                    "use_ema": True,
                    "ema_overwrite_frequency": 5,
                    "gradient_accumulation_steps": 2,
                },
            },
        ),
        make_housing(),
    ),
]


@pytest.mark.parametrize(("document", "schema"), [b[1:] for b in BUILT], ids=[b[0] for b in BUILT])
def test_shapes_and_counts_are_keras_own(document: dict[str, Any], schema: DatasetSchema) -> None:
    import keras

    from worker.training.building import build_model

    spec = check(document, schema).with_seed(42)
    summary = summarize(spec, schema)
    model = build_model(spec, schema)
    ours = [(x.name, x.type, x.output_shape, x.params) for x in summary.layers]
    theirs = [(x.name, type(x).__name__, list(x.output.shape), x.count_params()) for x in model.layers]
    assert ours == theirs
    assert summary.params == model.count_params()
    lines: list[str] = []
    # Without the optimizer, whose variables a compiled model counts, too.
    keras.Sequential([keras.Input(schema.features.shape), *model.layers]).summary(
        print_fn=lambda line, **_: lines.append(line)
    )
    for total in summary.text.splitlines()[-3:]:
        assert total in "\n".join(lines)


def test_layers_are_called_as_keras_would_call_them() -> None:
    import keras

    parts = ["Flatten", dense(3), "BatchNormalization", dense(3), {"type": "Dropout", "rate": 0.1}, dense(1)]
    spec = check(with_layers(*parts), None)
    keras.utils.clear_session()
    made = [getattr(keras.layers, layer.type)(**_without_name(layer)) for layer in spec.model.layers]
    assert [layer.name for layer in made] == [layer.name for layer in spec.model.layers]


def _without_name(layer: Layer) -> dict[str, Any]:
    return {key: value for key, value in layer.keras_arguments().items() if key != "name"}


def test_rescaling_is_the_only_layer_that_a_spec_cannot_name() -> None:
    assert Rescaling in components_of(layers, Layer)

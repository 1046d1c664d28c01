"""Specs that together use every word of the vocabulary, tiny enough to be trained by each engine in turn."""

from pathlib import Path
from typing import Any

import numpy as np

from services.schema import DatasetSchema, Features, Rows, Target, Task
from services.spec import TrainSpec
from worker.versions import store_version

TRAIN, TEST = 130, 20
LONG = 70_000
"""Rows of more than 1 MiB, the least that can be set as room for data."""
CLASSES = ["a", "b", "c"]


def _schema(name: str, task: Task, **changes: Any) -> DatasetSchema:
    usual: dict[str, Any] = {
        "features": Features(shape=(5,), dtype="float32"),
        "rows": Rows(train=TRAIN, test=TEST),
    }
    return DatasetSchema(name=name, task=task, **(usual | changes))


def _classes(shape: tuple[int, ...] = (), *, names: list[str] = CLASSES, dtype: str = "uint8") -> Target:
    columns = [f"target_{i}" for i in range(shape[0])] if shape else ["target"]
    return Target(shape=shape, dtype=dtype, names=columns, class_names=names)


SCHEMAS = {
    "numbers": _schema(
        "numbers", Task.REGRESSION, target=Target(shape=(2,), dtype="float32", names=["one", "two"])
    ),
    "number": _schema("number", Task.REGRESSION, target=Target(shape=(), dtype="float64", names=["amount"])),
    "images": _schema(
        "images", Task.MULTICLASS, features=Features(shape=(4, 3), dtype="uint8"), target=_classes()
    ),
    "weighed": _schema("weighed", Task.MULTICLASS, target=_classes(dtype="int64"), weight="w"),
    "one_hot": _schema("one_hot", Task.MULTICLASS, target=_classes((3,))),
    "yes_or_no": _schema("yes_or_no", Task.BINARY, target=_classes(names=["no", "yes"])),
    "labels": _schema("labels", Task.MULTILABEL, target=_classes((3,))),
    "long": _schema("long", Task.MULTICLASS, target=_classes(), rows=Rows(train=LONG, test=TEST)),
}


def store_tables(root: Path) -> dict[str, dict[str, Any]]:
    """Every dataset of the rows below, as a train order names it."""
    found = {}
    for name, schema in SCHEMAS.items():
        version = store_version(root, schema, _arrays(schema))
        path = str(root / "datasets" / version)
        described = schema.model_dump(mode="json")
        found[name] = {"name": name, "version": version, "path": path, "schema": described}
    return found


def _arrays(schema: DatasetSchema) -> dict[str, Any]:
    random = np.random.default_rng(5)
    rows = schema.rows.train + schema.rows.test
    hidden = random.normal(size=(rows, 5)).astype(np.float32)
    x = hidden
    if schema.features.dtype == "uint8":
        x = np.clip(hidden @ random.normal(40, 40, (5, 12)) + 128, 0, 255).astype(np.uint8).reshape(-1, 4, 3)
    y = _targets(schema, hidden @ random.normal(size=(5, 3)) + random.normal(0, 0.3, (rows, 3)))
    train = schema.rows.train
    arrays = {"train/x": x[:train], "train/y": y[:train], "test/x": x[train:], "test/y": y[train:]}
    if schema.weight is not None:
        arrays["train/w"] = (random.integers(0, 5, train) / 2).astype(np.float32)
    return arrays


def _targets(schema: DatasetSchema, scores: Any) -> Any:
    dtype, classes = schema.target.dtype, schema.target.classes
    if schema.task is Task.REGRESSION:
        amounts = np.exp(scores / 3)
        return (amounts[:, :2] if schema.target.shape else amounts[:, 0]).astype(dtype)
    if schema.task is Task.MULTILABEL:
        return (scores > 0.5).astype(dtype)
    ids = np.argmax(scores[:, :classes], axis=1)
    return (np.eye(3)[ids] if schema.target.shape else ids).astype(dtype)


def dense(units: int, activation: str = "linear", **arguments: Any) -> dict[str, Any]:
    """A Dense layer."""
    return {"type": "Dense", "units": units, "activation": activation, **arguments}


def row(data: str, *layers: Any, loss: Any, optimizer: Any, metrics: Any = (), **changes: Any) -> TrainSpec:
    """A spec of four whole batches and a smaller one an epoch, validated on 30 rows."""
    fit = {"epochs": 3, "batch_size": 24, **changes.pop("fit", {})}
    model = {"layers": list(layers), **changes.pop("model", {})}
    return TrainSpec.model_validate(
        {
            "dataset": data,
            "split": {"validation": {"last": 30}},
            "model": model,
            "compile": {"loss": loss, "optimizer": optimizer, "metrics": list(metrics)},
            "fit": fit,
            "evaluate": [],
            "seed": 42,
            **changes,
        }
    )


THRESHOLDS = {
    "sensitivity_at_specificity": {"type": "SensitivityAtSpecificity", "specificity": 0.5},
    "specificity_at_sensitivity": {"type": "SpecificityAtSensitivity", "sensitivity": 0.5},
    "precision_at_recall": {"type": "PrecisionAtRecall", "recall": 0.5},
    "recall_at_precision": {"type": "RecallAtPrecision", "precision": 0.5},
}

ROWS: dict[str, TrainSpec] = {
    "squares, every score": row(
        "numbers",
        "Normalization",
        dense(4, "relu", name="hidden"),
        dense(2),
        loss="mse",
        optimizer={"type": "SGD", "learning_rate": 0.02, "momentum": 0.8, "nesterov": True},
        metrics=[
            *("mse", "rmse", "mae", "mape", "LogCoshError", "R2Score", "CosineSimilarity"),
            {"type": "R2Score", "name": "r2", "class_aggregation": "variance_weighted_average"},
        ],
        preprocessing={"target_scaling": "standardize"},
        fit={"shuffle": False},
    ),
    "absolutes": row(
        "numbers",
        {"type": "Normalization", "axis": None},
        dense(4, "leaky_relu", kernel_initializer="he_normal"),
        dense(4, "relu6", kernel_initializer="he_uniform", bias_initializer="ones"),
        dense(2),
        loss={"type": "mae", "reduction": "mean"},
        optimizer={"type": "Adam", "clipnorm": 0.5, "amsgrad": True, "beta_1": 0.8, "beta_2": 0.99},
        preprocessing={"target_scaling": "min_max"},
    ),
    "percents": row(
        "numbers",
        dense(4, "elu", kernel_initializer="lecun_normal"),
        dense(4, "celu", kernel_initializer="lecun_uniform"),
        dense(2, "exponential"),
        loss="mape",
        optimizer={"type": "AdamW", "clipvalue": 0.5, "weight_decay": 0.1, "amsgrad": True}
        | {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
    ),
    "logarithms, every score of amounts": row(
        "numbers",
        dense(4, "selu", kernel_initializer={"type": "constant", "value": 0.1}, bias_initializer="uniform"),
        dense(4, "gelu", kernel_initializer="glorot_normal", use_bias=False),
        dense(2, "softplus"),
        loss="msle",
        optimizer={"type": "RMSprop", "momentum": 0.5, "centered": True, "rho": 0.8, "epsilon": 1e-6}
        | {"global_clipnorm": 0.5},
        metrics=["msle", "Poisson"],
    ),
    "outliers, averaged weights": row(
        "number",
        dense(4, "silu", kernel_initializer={"type": "RandomNormal", "mean": 0.1, "stddev": 0.5}),
        dense(4, "hard_silu", kernel_initializer={"type": "TruncatedNormal", "mean": 0.1, "stddev": 0.5}),
        dense(1),
        loss={"type": "huber", "delta": 0.5},
        optimizer={"type": "Adagrad", "use_ema": True, "ema_momentum": 0.9}
        | {"initial_accumulator_value": 0.2, "epsilon": 1e-6, "learning_rate": 0.05},
        metrics=["mse", "rmse", "mae", "mape", "msle", "LogCoshError", "R2Score", "CosineSimilarity"],
    ),
    "hyperbolas, weights overwritten by their averages": row(
        "number",
        dense(4, "mish", kernel_initializer={"type": "RandomUniform", "minval": -0.5, "maxval": 0.6}),
        dense(4, "tanh", kernel_initializer={"type": "Identity", "gain": 0.8}),
        dense(1, kernel_initializer={"type": "Orthogonal", "gain": 0.8}),
        loss="log_cosh",
        optimizer={"type": "Adadelta", "learning_rate": 1.0, "rho": 0.9, "epsilon": 1e-6}
        | {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
    ),
    "angles, penalties": row(
        "numbers",
        dense(
            4,
            "hard_tanh",
            kernel_regularizer={"type": "OrthogonalRegularizer", "factor": 0.1, "mode": "columns"},
            bias_regularizer="l1",
            activity_regularizer="l2",
        ),
        dense(
            4,
            "tanh_shrink",
            kernel_regularizer={"type": "OrthogonalRegularizer", "factor": 0.1},
            activity_regularizer={"type": "l1", "l1": 0.1},
            bias_regularizer={"type": "l2", "l2": 0.1},
        ),
        dense(2, kernel_regularizer={"type": "L1L2", "l1": 0.01, "l2": 0.02}),
        loss="cosine_similarity",
        optimizer={"type": "Adamax", "weight_decay": 0.1, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
    ),
    "counts, constraints": row(
        "numbers",
        dense(
            4, "sigmoid", kernel_constraint={"type": "max_norm", "axis": 1, "max_value": 0.5}, name="first"
        ),
        dense(4, "hard_sigmoid", kernel_constraint="non_neg", bias_constraint="unit_norm"),
        dense(
            4,
            "sparse_plus",
            kernel_constraint={"type": "MinMaxNorm", "min_value": 0.5, "max_value": 0.8, "rate": 0.5}
            | {"axis": 1},
            bias_constraint="non_neg",
        ),
        dense(2, "exponential", kernel_constraint={"type": "unit_norm", "axis": 1}),
        loss="poisson",
        optimizer={"type": "Nadam", "loss_scale_factor": 8, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
    ),
    "distributions": row(
        "one_hot",
        dense(4, "sparse_sigmoid", kernel_initializer={"type": "VarianceScaling", "scale": 2.0}),
        dense(4, "squareplus", kernel_initializer={"type": "VarianceScaling", "mode": "fan_out"}),
        dense(
            3,
            "softmax",
            kernel_initializer={"type": "VarianceScaling", "mode": "fan_avg", "distribution": "uniform"},
        ),
        loss="kld",
        optimizer={
            "type": "Ftrl",
            "learning_rate": 0.05,
            "learning_rate_power": -0.4,
            "initial_accumulator_value": 0.2,
            "l1_regularization_strength": 0.001,
            "l2_regularization_strength": 0.001,
            "l2_shrinkage_regularization_strength": 0.001,
            "beta": 0.1,
        },
        metrics=[
            *("accuracy", "KLDivergence", "CategoricalAccuracy", "CategoricalHinge"),
            {"type": "TopKCategoricalAccuracy", "k": 2},
            {"type": "Precision", "top_k": 2},
            {"type": "Recall", "top_k": 2, "class_id": 1},
        ],
    ),
    "hinges": row(
        "yes_or_no",
        dense(4, "softsign"),
        dense(4, "soft_shrink", bias_initializer={"type": "VarianceScaling", "scale": 0.5}),
        dense(1, "tanh"),
        loss="hinge",
        optimizer={"type": "Lion", "beta_1": 0.8, "beta_2": 0.9},
    ),
    "squared hinges, accumulated gradients": row(
        "yes_or_no",
        dense(4, "hard_shrink", kernel_initializer="uniform"),
        dense(
            4,
            "log_sigmoid",
            kernel_initializer={"type": "VarianceScaling", "distribution": "untruncated_normal"},
        ),
        dense(1),
        loss="squared_hinge",
        optimizer={"type": "SGD", "gradient_accumulation_steps": 2},
    ),
    "categorical hinges": row(
        "one_hot",
        {"type": "Flatten", "data_format": "channels_last"},
        dense(4, "log_softmax"),
        dense(3, "sparsemax"),
        loss="categorical_hinge",
        optimizer="SGD",
        fit={"class_weight": {"a": 2.0, "c": 0.5}, "shuffle": False},
    ),
    "labels, logits, the loss a sum": row(
        "labels",
        dense(4, "relu"),
        dense(3),
        loss={"type": "bce", "from_logits": True, "label_smoothing": 0.1, "reduction": "sum"},
        optimizer={"type": "Adam", "epsilon": 1e-6},
        metrics=[
            {"type": "BinaryCrossentropy", "from_logits": True, "label_smoothing": 0.1},
            {"type": "AUC", "from_logits": True, "multi_label": True, "num_labels": 3}
            | {"label_weights": [1.0, 2.0, 0.5]},
        ],
        fit={"shuffle": False},
    ),
    "one of two, every threshold": row(
        "yes_or_no",
        dense(4, "relu"),
        dense(1, "sigmoid"),
        loss={"type": "BinaryFocalCrossentropy", "apply_class_balancing": True, "alpha": 0.4, "gamma": 1.0}
        | {"label_smoothing": 0.1},
        optimizer="Adam",
        metrics=[
            *("accuracy", "BinaryAccuracy", "Precision", "Recall", "AUC"),
            *("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"),
            *THRESHOLDS.values(),
        ],
    ),
    "labels, every argument of a threshold": row(
        "labels",
        dense(4, "relu"),
        dense(3, "sigmoid"),
        loss={"type": "BinaryFocalCrossentropy", "from_logits": False},
        optimizer="Adam",
        metrics=[
            {"type": "BinaryAccuracy", "threshold": 0.4},
            {"type": "Precision", "thresholds": 0.4, "class_id": 1},
            {"type": "Recall", "thresholds": 0.4},
            *(
                {"type": kind, "thresholds": 0.4}
                for kind in ("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")
            ),
            *(metric | {"num_thresholds": 20, "class_id": 1} for metric in THRESHOLDS.values()),
            {"type": "AUC", "name": "pr", "curve": "PR", "summation_method": "minoring"},
            {"type": "AUC", "name": "few", "num_thresholds": 20, "summation_method": "majoring"},
            {"type": "AUC", "name": "own", "thresholds": [0.2, 0.5, 0.7]},
            *("Hinge", "SquaredHinge"),
            *({"type": "F1Score", "name": f"f1_{way}", "average": way} for way in ("micro", "macro")),
            {"type": "F1Score", "average": "weighted", "threshold": 0.4},
            *(
                {"type": "FBetaScore", "name": f"f2_{way}", "average": way, "beta": 2.0, "threshold": 0.4}
                for way in ("micro", "macro", "weighted")
            ),
        ],
    ),
    "one-hot, smoothed": row(
        "one_hot",
        dense(4, "relu"),
        dense(3, "softmax"),
        loss={"type": "CategoricalCrossentropy", "label_smoothing": 0.1},
        optimizer="Adam",
        metrics=[{"type": "CategoricalCrossentropy", "label_smoothing": 0.1}],
        fit={"class_weight": {"a": 2.0}},
    ),
    "one-hot, logits, focal": row(
        "one_hot",
        dense(4, "relu"),
        dense(3),
        loss={"type": "CategoricalFocalCrossentropy", "from_logits": True, "alpha": 0.4, "gamma": 1.0}
        | {"label_smoothing": 0.1},
        optimizer="Adam",
        metrics=[{"type": "CategoricalCrossentropy", "from_logits": True}],
    ),
    "images, class weights": row(
        "images",
        {"type": "Flatten", "data_format": "channels_first"},
        {"type": "BatchNormalization", "momentum": 0.9, "epsilon": 0.01},
        dense(6, "relu"),
        dense(3, "softmax"),
        loss="sparse_categorical_crossentropy",
        optimizer="Adam",
        metrics=[
            *("accuracy", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy"),
            {"type": "SparseTopKCategoricalAccuracy", "k": 2},
        ],
        preprocessing={"scale": 255},
        fit={"class_weight": {"a": 2.0, "c": 0.5}, "shuffle": False},
    ),
    "sample weights, the loss divided by their sum": row(
        "weighed",
        dense(4, "relu"),
        {
            "type": "BatchNormalization",
            "axis": 1,
            "beta_initializer": "he_normal",
            "gamma_initializer": "he_normal",
            "moving_mean_initializer": "ones",
            "moving_variance_initializer": {"type": "Constant", "value": 2.0},
            "gamma_regularizer": "l2",
            "beta_regularizer": {"type": "L1L2", "l1": 0.01},
            "gamma_constraint": {"type": "max_norm"},
            "beta_constraint": {"type": "unit_norm", "axis": -1},
        },
        dense(3, "softmax"),
        loss={"type": "SparseCategoricalCrossentropy", "reduction": "mean_with_sample_weight"},
        optimizer="SGD",
        metrics=["accuracy"],
        fit={"shuffle": False},
    ),
    "a class ignored, sample and class weights": row(
        "weighed",
        dense(4, "relu"),
        {"type": "BatchNormalization", "center": False, "renorm": True, "renorm_momentum": 0.9},
        {
            "type": "BatchNormalization",
            "scale": False,
            "renorm": True,
            "renorm_clipping": {"rmax": 3.0, "rmin": 0.3, "dmax": 5.0},
        },
        dense(3),
        loss={"type": "SparseCategoricalCrossentropy", "from_logits": True, "ignore_class": 1},
        optimizer="SGD",
        metrics=[{"type": "SparseCategoricalCrossentropy", "from_logits": True, "ignore_class": 1}],
        fit={"class_weight": {"a": 2.0}},
    ),
    "dropout": row(
        "number",
        {"type": "Dropout", "rate": 0.2},
        dense(8, "relu"),
        {"type": "Dropout", "rate": 0.5},
        dense(1),
        loss="mse",
        optimizer="Adam",
        fit={"shuffle": False},
    ),
    "16 bits": row(
        "images",
        "Flatten",
        dense(8, "relu"),
        "BatchNormalization",
        dense(3, "softmax"),
        loss="sparse_categorical_crossentropy",
        optimizer={"type": "Adam", "learning_rate": 0.01, "clipnorm": 1.0},
        metrics=["accuracy"],
        preprocessing={"scale": 255},
        model={"dtype_policy": "mixed_float16"},
    ),
    "16 bits, brain floats": row(
        "images",
        "Flatten",
        dense(8, "relu"),
        dense(3, "softmax"),
        loss="sparse_categorical_crossentropy",
        optimizer={"type": "SGD", "learning_rate": 0.1},
        metrics=["accuracy"],
        preprocessing={"scale": 255},
        model={"dtype_policy": "mixed_bfloat16"},
    ),
    "long": row(
        "long",
        dense(4, "relu"),
        dense(3, "softmax"),
        loss="sparse_categorical_crossentropy",
        optimizer="Adam",
        metrics=["accuracy"],
        fit={"batch_size": 4096, "class_weight": {"a": 2.0}},
    ),
}

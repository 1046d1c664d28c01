"""Builders of specs as documents, and of dataset schemas, with full defaults."""

import copy
from typing import Any

from services.schema import DatasetSchema, Features, Rows, Target, Task

GONE = object()
"""As a value: take the key away."""

FASHION: dict[str, Any] = {
    "name": "fashion-mnist-300-100",
    "dataset": "fashion_mnist",
    "split": {"validation": {"last": 5000}},
    "preprocessing": {"scale": 255},
    "model": {
        "layers": [
            "Flatten",
            {"type": "Dense", "units": 300, "activation": "relu"},
            {"type": "Dense", "units": 100, "activation": "relu"},
            {"type": "Dense", "units": 10, "activation": "softmax"},
        ]
    },
    "compile": {
        "loss": "sparse_categorical_crossentropy",
        "optimizer": {"type": "SGD", "learning_rate": 0.01},
        "metrics": ["accuracy"],
    },
    "fit": {"epochs": 30, "batch_size": 32},
    "seed": 42,
}

HOUSING: dict[str, Any] = {
    "dataset": "california_housing",
    "split": {"validation": {"fraction": 0.25}},
    "model": {
        "layers": [
            "Normalization",
            {"type": "Dense", "units": 50, "activation": "relu"},
            {"type": "Dense", "units": 1},
        ]
    },
    "compile": {"loss": "mse", "optimizer": "adam", "metrics": ["RootMeanSquaredError"]},
    "fit": {"epochs": 20},
}


def make_document(base: dict[str, Any] = FASHION, **changes: Any) -> dict[str, Any]:
    """A spec as plain data; `fit__epochs=0` changes one place, numbers count in lists."""
    document = copy.deepcopy(base)
    for path, value in changes.items():
        steps: list[Any] = [int(step) if step.isdecimal() else step for step in path.split("__")]
        node: Any = document
        *steps, last = steps
        for step in steps:
            node = node[step] if isinstance(node, list) else node.setdefault(step, {})
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return document


def make_layers(*layers: Any) -> dict[str, Any]:
    """The `model` of a spec."""
    return {"layers": list(layers)}


def make_schema(
    task: Task = Task.MULTICLASS,
    *,
    name: str = "fashion_mnist",
    features: tuple[int, ...] = (28, 28),
    dtype: str = "uint8",
    target: tuple[int, ...] = (),
    classes: int | None = 10,
    train: int = 60_000,
    test: int = 10_000,
    extremes: tuple[float, float] | None = None,
) -> DatasetSchema:
    """A dataset's schema; Fashion-MNIST's by default."""
    width = target[0] if target else 1
    minimum, maximum = extremes or (None, None)
    return DatasetSchema(
        name=name,
        task=task,
        features=Features(shape=features, dtype=dtype),
        target=Target(
            shape=target,
            dtype="int64" if classes else "float32",
            names=[f"target_{i}" for i in range(width)],
            class_names=None if classes is None else [f"class_{i}" for i in range(classes)],
            minimum=minimum,
            maximum=maximum,
        ),
        rows=Rows(train=train, test=test),
    )


def make_housing(**changes: Any) -> DatasetSchema:
    """California housing's schema."""
    usual: dict[str, Any] = {
        "name": "california_housing",
        "features": (8,),
        "dtype": "float32",
        "classes": None,
        "train": 16_512,
        "test": 4_128,
        "extremes": (0.15, 5.0),
    }
    return make_schema(Task.REGRESSION, **(usual | changes))

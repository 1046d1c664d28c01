"""What a person writes who has no service: `python own_script.py iris ARRAYS MLFLOW_URL EPOCHS`.

ARRAYS is an .npz with x_train, y_train, x_val and y_val, in the place of `load_data()`.
"""

import sys

import keras
import mlflow
import mlflow.keras
import numpy as np
from keras.layers import Dense, Flatten, Normalization, Rescaling


def main(name: str, arrays: str, mlflow_url: str, epochs: str) -> None:
    """Train, evaluate, and keep all of it in MLflow."""
    keras.utils.set_random_seed(42)
    with np.load(arrays) as data:
        x_train, y_train, x_val, y_val = (data[key] for key in ("x_train", "y_train", "x_val", "y_val"))
    mlflow.set_tracking_uri(mlflow_url)
    mlflow.set_experiment("own scripts")
    mlflow.keras.autolog(log_datasets=False)
    with mlflow.start_run(run_name=name):
        model, batch_size = {"iris": iris, "california": california, "fashion": fashion}[name](x_train)
        model.fit(
            x_train,
            y_train,
            batch_size=batch_size,
            epochs=int(epochs),
            validation_data=(x_val, y_val),
            verbose=0,
        )
        scores = model.evaluate(x_val, y_val, verbose=0, return_dict=True)
        mlflow.log_metrics({f"eval_{metric}": value for metric, value in scores.items()})


def iris(x_train: np.ndarray) -> tuple[keras.Model, int]:
    """As examples/iris.yaml."""
    front = Normalization()
    front.adapt(x_train)
    model = keras.Sequential(
        [keras.Input((4,)), front, Dense(10, activation="relu"), Dense(3, activation="softmax")]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, 16


def california(x_train: np.ndarray) -> tuple[keras.Model, int]:
    """As examples/california_housing.yaml."""
    front = Normalization()
    front.adapt(x_train)
    hidden = [Dense(50, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((8,)), front, *hidden, Dense(1)])
    model.compile(
        optimizer=keras.optimizers.Adam(0.001), loss="mse", metrics=[keras.metrics.RootMeanSquaredError()]
    )
    return model, 32


def fashion(_: np.ndarray) -> tuple[keras.Model, int]:
    """As examples/fashion_mnist.yaml."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            Rescaling(1 / 255),
            Flatten(),
            Dense(300, activation="relu"),
            Dense(100, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, 32


if __name__ == "__main__":
    main(*sys.argv[1:])

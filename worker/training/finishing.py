"""The end of a job: final weights, the model file, an input example; and the model file read again."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from worker.events import ModelFile, SavedModel
from worker.training.building import set_weights
from worker.training.checkpoints import put_in_place, sha256_of, write_whole
from worker.training.data import Array
from worker.training.early_stopping import Stopper
from worker.training.problems import DamagedModel

EXAMPLE_ROWS = 5


def settle_weights(model: Any, stopper: Stopper | None) -> int | None:
    """What Keras's fit does at its end: averaged weights if the optimizer keeps them, then the best epoch's.

    Returns the epoch that was restored, if one was.
    """
    model.optimizer.finalize_variable_values(model.trainable_variables)
    if stopper is None or stopper.best_weights is None:
        return None
    set_weights(model, stopper.best_weights)
    return stopper.best_epoch


def save_model(model: Any, folder: Path, fence: int) -> SavedModel:
    """Write model.keras, whole or not at all."""
    path = folder / "model.keras"
    temporary = folder / f"model-f{fence}.tmp.keras"  # Keras insists on the suffix
    model.save(temporary)
    return SavedModel(str(path), temporary.stat().st_size, put_in_place(temporary, path))


def load_model(file: ModelFile, *, is_compiled: bool) -> Any:
    """The model in a file that is the one which was saved. Raises DamagedModel."""
    if sha256_of(Path(file.path)) != file.sha256:
        raise DamagedModel(file.path)
    return keras.saving.load_model(file.path, compile=is_compiled, safe_mode=True)


def save_input_example(x: Array, rows: Any, folder: Path) -> None:
    """Write input_example.npy: a few training inputs as they came."""
    example = np.asarray(x[rows[:EXAMPLE_ROWS]])
    write_whole(folder / "input_example.npy", lambda file: np.save(file, example, allow_pickle=False))

"""Libraries that a user may have: imported when they are needed, and no earlier."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainshed.answers import History
from trainshed.errors import KerasMissing


def history_table(history: History) -> Any:
    """A pandas DataFrame with the index `epoch`; the history itself where pandas is not installed."""
    if importlib.util.find_spec("pandas") is None:
        return history
    pandas = importlib.import_module("pandas")
    index = pandas.Index(history["epoch"], name="epoch")
    # A value that is not finite is None in JSON and NaN here: the columns stay numbers.
    return pandas.DataFrame(history["history"], index=index, dtype=float)


def keras_loader() -> Callable[[Path], Any]:
    """Keras's load_model. Raises KerasMissing."""
    try:
        loader: Callable[[Path], Any] = importlib.import_module("keras").models.load_model
    except ImportError as error:
        raise KerasMissing(str(error)) from error
    return loader

"""What a source gives: a dataset's arrays, or one sentence about why it gives nothing."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


class SourceFailed(Exception):
    """This source has no usable data; the message is one sentence that says why."""


@dataclass(frozen=True)
class Material:
    """Unsealed (train) and sealed (test) rows, and the names where the source knows them."""

    train_x: NDArray[Any]
    train_y: NDArray[Any]
    test_x: NDArray[Any]
    test_y: NDArray[Any]
    feature_names: list[str] | None = None
    class_names: list[str] | None = None

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by the part of a dataset version."""
        return {
            "train/x": self.train_x,
            "train/y": self.train_y,
            "test/x": self.test_x,
            "test/y": self.test_y,
        }

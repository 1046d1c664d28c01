"""What a trainer can find wrong while it works; each becomes a verdict with a reason."""

from pathlib import Path

from services.errors import TrainshedError
from services.states import Reason


class TrainingProblem(TrainshedError):
    """Base: `reason` is the job's reason, the text is for the person who posted the job."""

    reason: Reason

    def __init__(self, message: str, epoch: int | None = None) -> None:
        self.epoch = epoch
        super().__init__(message)


class BadSpec(TrainingProblem):
    """The spec asks for something that cannot be."""

    reason = Reason.BAD_SPEC


class BadData(TrainingProblem):
    """The data is not what its schema says, or holds what cannot be trained on."""

    reason = Reason.BAD_DATA


class Diverged(TrainingProblem):
    """A loss or a weight is no longer a finite number."""

    reason = Reason.DIVERGED


class DamagedModel(TrainingProblem):
    """The model file is not the one that was saved."""

    reason = Reason.INFRASTRUCTURE

    def __init__(self, path: str) -> None:
        name = Path(path).name
        super().__init__(f"The SHA-256 of {name} is not the one that was recorded when the model was saved.")

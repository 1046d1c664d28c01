"""From what went wrong in a trainer to the job's reason and a sentence for its owner."""

import errno
import traceback
from pathlib import PurePath

import pydantic
import tensorflow as tf

from services.states import Reason
from worker.events import Failed
from worker.training.problems import TrainingProblem

DETAIL_CHARACTERS = 20_000
ERRORS_OF_STORAGE = {errno.ENOSPC: "The disk is full", errno.EDQUOT: "The disk quota is used up"}


def verdict_on(error: Exception, *, is_gpu: bool) -> Failed:
    """Judge a failure. What nobody foresaw counts as infrastructure, so that it is tried again."""
    if isinstance(error, TrainingProblem):
        return Failed(error.reason, str(error), None, error.epoch)
    reason, message = _reason_and_message(error, is_gpu)
    return Failed(reason, message, "".join(traceback.format_exception(error))[-DETAIL_CHARACTERS:])


def described(error: OSError) -> str:
    """What the system said, with the file's name and not its place on the server."""
    name = f" ({PurePath(error.filename).name})" if isinstance(error.filename, str) else ""
    return f"{error.strerror or type(error).__name__}{name}"


def _reason_and_message(error: Exception, is_gpu: bool) -> tuple[Reason, str]:
    match error:
        case pydantic.ValidationError():
            return Reason.BAD_SPEC, f"This worker cannot read the order: {error}"
        case tf.errors.ResourceExhaustedError() if is_gpu:
            return (
                Reason.OOM_GPU,
                "The GPU's memory is too small for this job: try a smaller batch or fewer units.",
            )
        case MemoryError() | tf.errors.ResourceExhaustedError():
            return (
                Reason.OOM_HOST,
                "The memory is too small for this job: try a smaller batch or fewer units.",
            )
        case tf.errors.InvalidArgumentError() | tf.errors.UnimplementedError() if _is_of_engine(error):
            what = "The engine cannot compile a step of this model: set `fit.engine` to `graph` or `keras`."
            return Reason.BAD_SPEC, f"{what} TensorFlow says: {error.message}"
        case tf.errors.InvalidArgumentError():
            return Reason.BAD_DATA, f"TensorFlow refused the data: {error.message}"
        case OSError():
            what = ERRORS_OF_STORAGE.get(error.errno or 0, "A file could not be used")
            return Reason.INFRASTRUCTURE, f"{what}: {described(error)}"
        case _:
            return Reason.INFRASTRUCTURE, f"The trainer failed with {type(error).__name__}: {error}"


def _is_of_engine(error: tf.errors.OpError) -> bool:
    # What XLA lacks, it finds before a step runs.
    return isinstance(error, tf.errors.UnimplementedError) or "trying to compile" in error.message

"""All randomness of a job as a function of (seed, epoch), so that a resumed run repeats an unbroken one."""

from typing import Any

import keras
import numpy as np

from worker.training.data import RowIds

SEED_STATE = "seed_generator_state"
"""What Keras calls the variable in every SeedGenerator of a model."""


def seed_initial_weights(seed: int) -> None:
    """Make the layers built next start as they would in a script that calls keras.utils.set_random_seed."""
    keras.utils.set_random_seed(seed)


def shuffled(rows: RowIds, seed: int, epoch: int) -> RowIds:
    """The order of samples in one epoch."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    return random.permutation(rows)


def seed_generators_of(model: Any) -> list[Any]:
    """The state variables of the model's random layers, in the order of its layers."""
    return [variable for variable in model.variables if variable.name == SEED_STATE]


def seed_epoch(model: Any, seed: int, epoch: int) -> None:
    """Set every random layer to where it stands at the start of an epoch."""
    for index, state in enumerate(seed_generators_of(model)):
        drawn = np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0]
        state.assign(np.array([drawn >> 1, 0], state.dtype))

"""How many examples and batches an epoch has, by arithmetic."""

import math

from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.states import Split


def training_rows(spec: TrainSpec, schema: DatasetSchema) -> int:
    """Examples of one epoch: the unsealed ones without the validation split."""
    validation = spec.split.validation
    held_out = 0 if validation is None else validation.rows(schema.rows.train)
    return schema.rows.train - held_out


def batches_per_epoch(spec: TrainSpec, schema: DatasetSchema) -> int:
    """Batches of one epoch; a last, smaller one is trained as well."""
    return math.ceil(training_rows(spec, schema) / spec.fit.batch_size)


def split_rows(spec: TrainSpec, schema: DatasetSchema, split: Split) -> int:
    """Examples of a split."""
    match split:
        case Split.TRAIN:
            return training_rows(spec, schema)
        case Split.VALIDATION:
            return schema.rows.train - training_rows(spec, schema)
    return schema.rows.test

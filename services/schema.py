"""What is known of a dataset without opening it: shapes, classes, rows."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Task(StrEnum):
    """What is predicted."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


class Column(BaseModel):
    """A column of an uploaded table as people know it, and how its values become inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["numeric", "categorical"]
    categories: list[str] | None = Field(
        default=None,
        description="Categorical only: one input each, in this order, 1 where the value is this one. "
        "Any other value gives zeros.",
    )
    impute: float | str | None = Field(
        default=None, description="Stands in for a missing value; null: a missing value is refused."
    )


class Features(BaseModel):
    """The inputs of one example."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[int, ...] = Field(description="Shape of one example, without the batch axis.")
    dtype: str = Field(description="NumPy's name of the stored element type, such as uint8.")
    names: list[str] | None = Field(default=None, description="One name an input, for tables.")
    columns: list[Column] | None = Field(
        default=None,
        description="Uploaded tables only: the columns from which the inputs are made, in order.",
    )
    missing_values: list[str] | None = Field(
        default=None,
        description="Uploaded tables only: the texts that mean a missing value in a file; null: the usual.",
    )


class Target(BaseModel):
    """What belongs to one example: a class id, or numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[int, ...] = Field(description="Shape of one target; () for a class id or one number.")
    dtype: str = Field(description="NumPy's name of the stored element type.")
    names: list[str] = Field(description="One name for each target column.")
    class_names: list[str] | None = Field(default=None, description="Class names in the order of their ids.")
    minimum: float | None = Field(
        default=None, description="Smallest target of the unsealed rows; regression only."
    )
    maximum: float | None = Field(
        default=None, description="Largest target of the unsealed rows; regression only."
    )

    @property
    def classes(self) -> int | None:
        """How many classes there are; None for regression."""
        return None if self.class_names is None else len(self.class_names)


class Rows(BaseModel):
    """How many examples the stored parts hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(description="Unsealed examples: training and validation are cut from these.")
    test: int = Field(description="Sealed examples.")
    validation: int = Field(
        default=0,
        description="The last so many of `train` are the dataset's own validation split: "
        "what a spec gets that names no other.",
    )


class DatasetSchema(BaseModel):
    """The description of one dataset version, stored beside its arrays as schema.json and in SQL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    task: Task
    features: Features
    target: Target
    rows: Rows
    weight: str | None = Field(
        default=None, description="Name of the column whose values weigh the training examples."
    )
    layout: Literal[1] = 1

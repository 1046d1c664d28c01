"""The losses of a spec, with Keras's arguments, and the targets that each can be computed for."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from services.vocabulary import Component, Flag, NotNegative, Number, Positive, Share, Spoken, Whole


class Truth(StrEnum):
    """What one target looks like."""

    NUMBERS = "numbers"
    BINARY = "two classes"
    CLASS_IDS = "class ids"
    ONE_HOT = "one-hot rows"
    LABELS = "labels"


AMOUNTS = frozenset({Truth.NUMBERS, Truth.BINARY, Truth.ONE_HOT, Truth.LABELS})
YES_OR_NO = frozenset({Truth.BINARY, Truth.LABELS, Truth.ONE_HOT})
NUMBERS = frozenset({Truth.NUMBERS})
ONE_HOT = frozenset({Truth.ONE_HOT})
IDS = frozenset({Truth.CLASS_IDS, Truth.BINARY})

Smoothing = Annotated[Number, Field(ge=0, lt=1)]


class Loss(Component):
    """What training makes small."""

    reduction: Literal["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight"] = (
        "sum_over_batch_size"
    )
    fits: ClassVar[frozenset[Truth]]
    refused: ClassVar[dict[str, str]] = {
        "name": "a job has one loss, called `loss`",
        "dtype": "losses are computed in float32",
        "axis": "the classes are on the last axis",
    }


class MeanSquaredError(Loss):
    """The mean of squared differences."""

    type: Literal["MeanSquaredError"] = "MeanSquaredError"
    aliases: ClassVar[tuple[str, ...]] = ("mse",)
    fits: ClassVar[frozenset[Truth]] = AMOUNTS


class MeanAbsoluteError(Loss):
    """The mean of absolute differences."""

    type: Literal["MeanAbsoluteError"] = "MeanAbsoluteError"
    aliases: ClassVar[tuple[str, ...]] = ("mae",)
    fits: ClassVar[frozenset[Truth]] = AMOUNTS


class MeanAbsolutePercentageError(Loss):
    """The mean of absolute differences in percent of the target."""

    type: Literal["MeanAbsolutePercentageError"] = "MeanAbsolutePercentageError"
    aliases: ClassVar[tuple[str, ...]] = ("mape",)
    fits: ClassVar[frozenset[Truth]] = NUMBERS


class MeanSquaredLogarithmicError(Loss):
    """The mean of squared differences of log(1 + x)."""

    type: Literal["MeanSquaredLogarithmicError"] = "MeanSquaredLogarithmicError"
    aliases: ClassVar[tuple[str, ...]] = ("msle",)
    fits: ClassVar[frozenset[Truth]] = NUMBERS


class Huber(Loss):
    """Squared up to `delta`, linear beyond."""

    type: Literal["Huber"] = "Huber"
    aliases: ClassVar[tuple[str, ...]] = ("huber_loss",)
    delta: Positive = 1.0
    fits: ClassVar[frozenset[Truth]] = AMOUNTS


class LogCosh(Loss):
    """The logarithm of the hyperbolic cosine of the difference."""

    type: Literal["LogCosh"] = "LogCosh"
    fits: ClassVar[frozenset[Truth]] = AMOUNTS


class CosineSimilarity(Loss):
    """Minus the cosine of the angle between target and prediction."""

    type: Literal["CosineSimilarity"] = "CosineSimilarity"
    fits: ClassVar[frozenset[Truth]] = frozenset({Truth.NUMBERS, Truth.ONE_HOT})


class Poisson(Loss):
    """For counts: prediction minus target times the prediction's logarithm."""

    type: Literal["Poisson"] = "Poisson"
    fits: ClassVar[frozenset[Truth]] = NUMBERS


class KLDivergence(Loss):
    """How far the predicted distribution is from the target's."""

    type: Literal["KLDivergence"] = "KLDivergence"
    aliases: ClassVar[tuple[str, ...]] = ("kld",)
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class Hinge(Loss):
    """max(1 - target x prediction, 0) with targets -1 and 1; 0 and 1 are turned into these."""

    type: Literal["Hinge"] = "Hinge"
    fits: ClassVar[frozenset[Truth]] = YES_OR_NO


class SquaredHinge(Loss):
    """The square of the hinge."""

    type: Literal["SquaredHinge"] = "SquaredHinge"
    fits: ClassVar[frozenset[Truth]] = YES_OR_NO


class CategoricalHinge(Loss):
    """The hinge between the right class and the best wrong one."""

    type: Literal["CategoricalHinge"] = "CategoricalHinge"
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class ProbabilityLoss(Loss):
    """A loss over probabilities, or over logits when told so."""

    from_logits: Flag = False


class BinaryCrossentropy(ProbabilityLoss):
    """For yes-or-no targets: one unit each."""

    type: Literal["BinaryCrossentropy"] = "BinaryCrossentropy"
    aliases: ClassVar[tuple[str, ...]] = ("bce",)
    label_smoothing: Smoothing = 0.0
    fits: ClassVar[frozenset[Truth]] = YES_OR_NO


class BinaryFocalCrossentropy(ProbabilityLoss):
    """Binary cross-entropy that attends to hard examples."""

    type: Literal["BinaryFocalCrossentropy"] = "BinaryFocalCrossentropy"
    apply_class_balancing: Flag = False
    alpha: Share = 0.25
    gamma: NotNegative = 2.0
    label_smoothing: Smoothing = 0.0
    fits: ClassVar[frozenset[Truth]] = YES_OR_NO


class CategoricalCrossentropy(ProbabilityLoss):
    """For one-hot targets: one unit for each class."""

    type: Literal["CategoricalCrossentropy"] = "CategoricalCrossentropy"
    label_smoothing: Smoothing = 0.0
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class CategoricalFocalCrossentropy(ProbabilityLoss):
    """Categorical cross-entropy that attends to hard examples."""

    type: Literal["CategoricalFocalCrossentropy"] = "CategoricalFocalCrossentropy"
    alpha: Share = 0.25
    gamma: NotNegative = 2.0
    label_smoothing: Smoothing = 0.0
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class SparseCategoricalCrossentropy(ProbabilityLoss):
    """For class ids: one unit for each class."""

    type: Literal["SparseCategoricalCrossentropy"] = "SparseCategoricalCrossentropy"
    ignore_class: Annotated[Whole, Field(ge=-1, le=100_000)] | None = None
    fits: ClassVar[frozenset[Truth]] = IDS


AnyLoss = Annotated[
    MeanSquaredError
    | MeanAbsoluteError
    | MeanAbsolutePercentageError
    | MeanSquaredLogarithmicError
    | Huber
    | LogCosh
    | CosineSimilarity
    | Poisson
    | KLDivergence
    | Hinge
    | SquaredHinge
    | CategoricalHinge
    | BinaryCrossentropy
    | BinaryFocalCrossentropy
    | CategoricalCrossentropy
    | CategoricalFocalCrossentropy
    | SparseCategoricalCrossentropy,
    Field(discriminator="type"),
    Spoken(
        MeanSquaredError,
        MeanAbsoluteError,
        MeanAbsolutePercentageError,
        MeanSquaredLogarithmicError,
        Huber,
        LogCosh,
        CosineSimilarity,
        Poisson,
        KLDivergence,
        Hinge,
        SquaredHinge,
        CategoricalHinge,
        BinaryCrossentropy,
        BinaryFocalCrossentropy,
        CategoricalCrossentropy,
        CategoricalFocalCrossentropy,
        SparseCategoricalCrossentropy,
    ),
]

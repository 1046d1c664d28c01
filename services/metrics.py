"""The metrics of a spec, with Keras's arguments, and the targets that each can be computed for."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from services.losses import AMOUNTS, IDS, NUMBERS, ONE_HOT, YES_OR_NO, Smoothing, Truth
from services.vocabulary import Component, Flag, Positive, Share, Spoken, Whole

METRIC_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
CLASSIFICATION = frozenset({Truth.BINARY, Truth.CLASS_IDS, Truth.ONE_HOT, Truth.LABELS})

MetricName = Annotated[str, Field(pattern=METRIC_NAME)]
Inside = Annotated[float, Field(strict=True, gt=0, lt=1)]
Place = Annotated[Whole, Field(ge=0, le=100_000)]
Thresholds = Annotated[Whole, Field(ge=2, le=10_000)]
Averages = Literal["micro", "macro", "weighted"]


class Metric(Component):
    """What is measured after each epoch; `name` is its column in the history. Every metric is one number."""

    name: MetricName
    fits: ClassVar[frozenset[Truth]]
    needs_columns: ClassVar[bool] = False
    """Whether Keras refuses targets of shape () for it, or multiplies each of them with each output."""
    refused: ClassVar[dict[str, str]] = {
        "dtype": "metrics are computed in float32",
        "axis": "the classes are on the last axis",
    }

    def keras_metric(self) -> str | dict[str, Any]:
        """What Keras's `compile` takes in its list of metrics."""
        return self.keras_config()


class Accuracy(Metric):
    """Keras's `accuracy`: binary, categorical or sparse categorical, by the shapes of targets and outputs."""

    type: Literal["accuracy"] = "accuracy"
    aliases: ClassVar[tuple[str, ...]] = ("acc",)
    name: Annotated[str, Field(pattern=r"(?i)^(accuracy|acc)$")] = "accuracy"
    fits: ClassVar[frozenset[Truth]] = CLASSIFICATION

    def keras_metric(self) -> str:
        """Its name: only as a string does Keras choose by the shapes."""
        return self.name


class BinaryAccuracy(Metric):
    """The share of outputs on the right side of `threshold`."""

    type: Literal["BinaryAccuracy"] = "BinaryAccuracy"
    name: MetricName = "binary_accuracy"
    threshold: Share = 0.5
    fits: ClassVar[frozenset[Truth]] = YES_OR_NO


class CategoricalAccuracy(Metric):
    """The share of examples whose likeliest class is right; one-hot targets."""

    type: Literal["CategoricalAccuracy"] = "CategoricalAccuracy"
    name: MetricName = "categorical_accuracy"
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class SparseCategoricalAccuracy(Metric):
    """The share of examples whose likeliest class is right; class ids as targets."""

    type: Literal["SparseCategoricalAccuracy"] = "SparseCategoricalAccuracy"
    name: MetricName = "sparse_categorical_accuracy"
    fits: ClassVar[frozenset[Truth]] = IDS


class TopKCategoricalAccuracy(Metric):
    """The share of examples whose class is among the `k` likeliest; one-hot targets."""

    type: Literal["TopKCategoricalAccuracy"] = "TopKCategoricalAccuracy"
    name: MetricName = "top_k_categorical_accuracy"
    k: Annotated[Whole, Field(ge=1, le=100_000)] = 5
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class SparseTopKCategoricalAccuracy(Metric):
    """The share of examples whose class is among the `k` likeliest; class ids as targets."""

    type: Literal["SparseTopKCategoricalAccuracy"] = "SparseTopKCategoricalAccuracy"
    name: MetricName = "sparse_top_k_categorical_accuracy"
    k: Annotated[Whole, Field(ge=1, le=100_000)] = 5
    fits: ClassVar[frozenset[Truth]] = IDS
    refused: ClassVar[dict[str, str]] = Metric.refused | {
        "from_sorted_ids": "a model's outputs are probabilities, not ids"
    }


class YesOrNoMetric(Metric):
    """A metric over yes-or-no outputs."""

    fits: ClassVar[frozenset[Truth]] = YES_OR_NO


class Precision(YesOrNoMetric):
    """Of the outputs that said yes, the share that was right."""

    type: Literal["Precision"] = "Precision"
    name: MetricName = "precision"
    thresholds: Share | None = Field(
        default=None, description="One threshold; null is 0.5, or none with `top_k`."
    )
    top_k: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    class_id: Place | None = None


class Recall(YesOrNoMetric):
    """Of the targets that are yes, the share that was found."""

    type: Literal["Recall"] = "Recall"
    name: MetricName = "recall"
    thresholds: Share | None = Field(
        default=None, description="One threshold; null is 0.5, or none with `top_k`."
    )
    top_k: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    class_id: Place | None = None


class TruePositives(YesOrNoMetric):
    """How many yes were right."""

    type: Literal["TruePositives"] = "TruePositives"
    name: MetricName = "true_positives"
    thresholds: Share | None = Field(default=None, description="One threshold; null is 0.5.")


class TrueNegatives(YesOrNoMetric):
    """How many no were right."""

    type: Literal["TrueNegatives"] = "TrueNegatives"
    name: MetricName = "true_negatives"
    thresholds: Share | None = Field(default=None, description="One threshold; null is 0.5.")


class FalsePositives(YesOrNoMetric):
    """How many yes were wrong."""

    type: Literal["FalsePositives"] = "FalsePositives"
    name: MetricName = "false_positives"
    thresholds: Share | None = Field(default=None, description="One threshold; null is 0.5.")


class FalseNegatives(YesOrNoMetric):
    """How many no were wrong."""

    type: Literal["FalseNegatives"] = "FalseNegatives"
    name: MetricName = "false_negatives"
    thresholds: Share | None = Field(default=None, description="One threshold; null is 0.5.")


class SensitivityAtSpecificity(YesOrNoMetric):
    """The best sensitivity where the specificity is at least `specificity`."""

    type: Literal["SensitivityAtSpecificity"] = "SensitivityAtSpecificity"
    name: MetricName = "sensitivity_at_specificity"
    specificity: Share = Field(description="A share, such as 0.9.")
    num_thresholds: Thresholds = 200
    class_id: Place | None = None


class SpecificityAtSensitivity(YesOrNoMetric):
    """The best specificity where the sensitivity is at least `sensitivity`."""

    type: Literal["SpecificityAtSensitivity"] = "SpecificityAtSensitivity"
    name: MetricName = "specificity_at_sensitivity"
    sensitivity: Share = Field(description="A share, such as 0.9.")
    num_thresholds: Thresholds = 200
    class_id: Place | None = None


class PrecisionAtRecall(YesOrNoMetric):
    """The best precision where the recall is at least `recall`."""

    type: Literal["PrecisionAtRecall"] = "PrecisionAtRecall"
    name: MetricName = "precision_at_recall"
    recall: Share = Field(description="A share, such as 0.9.")
    num_thresholds: Thresholds = 200
    class_id: Place | None = None


class RecallAtPrecision(YesOrNoMetric):
    """The best recall where the precision is at least `precision`."""

    type: Literal["RecallAtPrecision"] = "RecallAtPrecision"
    name: MetricName = "recall_at_precision"
    precision: Share = Field(description="A share, such as 0.9.")
    num_thresholds: Thresholds = 200
    class_id: Place | None = None


class AUC(YesOrNoMetric):
    """The area under the ROC or the precision-recall curve."""

    type: Literal["AUC"] = "AUC"
    name: MetricName = "auc"
    num_thresholds: Thresholds = 200
    curve: Literal["ROC", "PR"] = "ROC"
    summation_method: Literal["interpolation", "minoring", "majoring"] = "interpolation"
    thresholds: Annotated[tuple[Inside, ...], Field(min_length=1, max_length=10_000)] | None = None
    multi_label: Flag = False
    num_labels: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    label_weights: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=100_000)] | None = None
    from_logits: Flag = False


class F1Score(YesOrNoMetric):
    """The harmonic mean of precision and recall. `average` must be said, so that it is one number."""

    type: Literal["F1Score"] = "F1Score"
    name: MetricName = "f1_score"
    needs_columns: ClassVar[bool] = True
    average: Averages = Field(description="How outputs are averaged: macro, micro or weighted.")
    threshold: Inside | None = None


class FBetaScore(YesOrNoMetric):
    """F1 with recall weighing `beta` times precision. `average` must be said, so that it is one number."""

    type: Literal["FBetaScore"] = "FBetaScore"
    name: MetricName = "fbeta_score"
    needs_columns: ClassVar[bool] = True
    average: Averages = Field(description="How outputs are averaged: macro, micro or weighted.")
    beta: Positive = 1.0
    threshold: Inside | None = None


class AmountMetric(Metric):
    """A metric over differences."""

    fits: ClassVar[frozenset[Truth]] = AMOUNTS


class MeanSquaredError(AmountMetric):
    """The mean of squared differences."""

    type: Literal["MeanSquaredError"] = "MeanSquaredError"
    aliases: ClassVar[tuple[str, ...]] = ("mse",)
    name: MetricName = "mean_squared_error"


class RootMeanSquaredError(AmountMetric):
    """The root of the mean of squared differences, in the target's unit."""

    type: Literal["RootMeanSquaredError"] = "RootMeanSquaredError"
    aliases: ClassVar[tuple[str, ...]] = ("rmse",)
    name: MetricName = "root_mean_squared_error"


class MeanAbsoluteError(AmountMetric):
    """The mean of absolute differences, in the target's unit."""

    type: Literal["MeanAbsoluteError"] = "MeanAbsoluteError"
    aliases: ClassVar[tuple[str, ...]] = ("mae",)
    name: MetricName = "mean_absolute_error"


class LogCoshError(AmountMetric):
    """The logarithm of the hyperbolic cosine of the difference."""

    type: Literal["LogCoshError"] = "LogCoshError"
    name: MetricName = "logcosh"


class NumberMetric(Metric):
    """A metric over numbers; classes have none."""

    fits: ClassVar[frozenset[Truth]] = NUMBERS


class MeanAbsolutePercentageError(NumberMetric):
    """The mean of absolute differences in percent of the target."""

    type: Literal["MeanAbsolutePercentageError"] = "MeanAbsolutePercentageError"
    aliases: ClassVar[tuple[str, ...]] = ("mape",)
    name: MetricName = "mean_absolute_percentage_error"


class MeanSquaredLogarithmicError(NumberMetric):
    """The mean of squared differences of log(1 + x)."""

    type: Literal["MeanSquaredLogarithmicError"] = "MeanSquaredLogarithmicError"
    aliases: ClassVar[tuple[str, ...]] = ("msle",)
    name: MetricName = "mean_squared_logarithmic_error"


def _unadjusted(regressors: int) -> int:
    # Its result asks in Python for a number that Keras's compiled steps have only when they run.
    if regressors:
        raise PydanticCustomError(
            "out_of_range",
            "Keras cannot adjust an R2 score for the number of inputs while it trains",
            {"expected": "0"},
        )
    return regressors


class R2Score(NumberMetric):
    """The share of the target's variance that is explained."""

    type: Literal["R2Score"] = "R2Score"
    name: MetricName = "r2_score"
    class_aggregation: Literal["uniform_average", "variance_weighted_average"] = "uniform_average"
    num_regressors: Annotated[Whole, Field(ge=0, le=10**9), AfterValidator(_unadjusted)] = 0


class Poisson(NumberMetric):
    """For counts: prediction minus target times the prediction's logarithm."""

    type: Literal["Poisson"] = "Poisson"
    name: MetricName = "poisson"
    needs_columns: ClassVar[bool] = True


class CosineSimilarity(Metric):
    """The cosine of the angle between target and prediction."""

    type: Literal["CosineSimilarity"] = "CosineSimilarity"
    name: MetricName = "cosine_similarity"
    fits: ClassVar[frozenset[Truth]] = frozenset({Truth.NUMBERS, Truth.ONE_HOT})


class KLDivergence(Metric):
    """How far the predicted distribution is from the target's."""

    type: Literal["KLDivergence"] = "KLDivergence"
    name: MetricName = "kl_divergence"
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class Hinge(YesOrNoMetric):
    """max(1 - target x prediction, 0) with targets -1 and 1."""

    type: Literal["Hinge"] = "Hinge"
    name: MetricName = "hinge"
    needs_columns: ClassVar[bool] = True


class SquaredHinge(YesOrNoMetric):
    """The square of the hinge."""

    type: Literal["SquaredHinge"] = "SquaredHinge"
    name: MetricName = "squared_hinge"
    needs_columns: ClassVar[bool] = True


class CategoricalHinge(Metric):
    """The hinge between the right class and the best wrong one."""

    type: Literal["CategoricalHinge"] = "CategoricalHinge"
    name: MetricName = "categorical_hinge"
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class BinaryCrossentropy(YesOrNoMetric):
    """Binary cross-entropy without penalties."""

    type: Literal["BinaryCrossentropy"] = "BinaryCrossentropy"
    aliases: ClassVar[tuple[str, ...]] = ("bce",)
    name: MetricName = "binary_crossentropy"
    needs_columns: ClassVar[bool] = True
    from_logits: Flag = False
    label_smoothing: Smoothing = 0.0


class CategoricalCrossentropy(Metric):
    """Categorical cross-entropy without penalties; one-hot targets."""

    type: Literal["CategoricalCrossentropy"] = "CategoricalCrossentropy"
    name: MetricName = "categorical_crossentropy"
    from_logits: Flag = False
    label_smoothing: Smoothing = 0.0
    fits: ClassVar[frozenset[Truth]] = ONE_HOT


class SparseCategoricalCrossentropy(Metric):
    """Categorical cross-entropy without penalties; class ids as targets."""

    type: Literal["SparseCategoricalCrossentropy"] = "SparseCategoricalCrossentropy"
    name: MetricName = "sparse_categorical_crossentropy"
    from_logits: Flag = False
    ignore_class: Annotated[Whole, Field(ge=-1, le=100_000)] | None = None
    fits: ClassVar[frozenset[Truth]] = IDS


def _called_as_written(value: object) -> Any:
    return {"type": value, "name": value} if isinstance(value, str) else value


METRICS = (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    TopKCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    Precision,
    Recall,
    TruePositives,
    TrueNegatives,
    FalsePositives,
    FalseNegatives,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    PrecisionAtRecall,
    RecallAtPrecision,
    AUC,
    F1Score,
    FBetaScore,
    MeanSquaredError,
    RootMeanSquaredError,
    MeanAbsoluteError,
    LogCoshError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    R2Score,
    Poisson,
    CosineSimilarity,
    KLDivergence,
    Hinge,
    SquaredHinge,
    CategoricalHinge,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
)

AnyMetric = Annotated[
    Accuracy
    | BinaryAccuracy
    | CategoricalAccuracy
    | SparseCategoricalAccuracy
    | TopKCategoricalAccuracy
    | SparseTopKCategoricalAccuracy
    | Precision
    | Recall
    | TruePositives
    | TrueNegatives
    | FalsePositives
    | FalseNegatives
    | SensitivityAtSpecificity
    | SpecificityAtSensitivity
    | PrecisionAtRecall
    | RecallAtPrecision
    | AUC
    | F1Score
    | FBetaScore
    | MeanSquaredError
    | RootMeanSquaredError
    | MeanAbsoluteError
    | LogCoshError
    | MeanAbsolutePercentageError
    | MeanSquaredLogarithmicError
    | R2Score
    | Poisson
    | CosineSimilarity
    | KLDivergence
    | Hinge
    | SquaredHinge
    | CategoricalHinge
    | BinaryCrossentropy
    | CategoricalCrossentropy
    | SparseCategoricalCrossentropy,
    Field(discriminator="type"),
    Spoken(*METRICS),
    BeforeValidator(_called_as_written),
]

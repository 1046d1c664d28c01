"""The spec: one class that is the request body, the stored column and the trainer's argument."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from services.layers import RESERVED_LAYER_NAMES, AnyLayer
from services.losses import AnyLoss
from services.metrics import AnyMetric
from services.optimizers import AnyOptimizer, RMSprop
from services.spelling import composed
from services.states import Split
from services.vocabulary import Flag, NotNegative, Number, Part, Whole, snake_case

MAX_LAYERS = 64
SMALLEST_SCALE = 1e-30
MAX_PARAMETERS = 50_000_000
MAX_BATCH_SIZE = 65_536
MAX_EPOCHS = 10_000
MAX_METRICS = 32
MAX_LABELS = 32
MAX_ROWS = 2**53
MAX_SEED = 2**32 - 1
# Names in the history's CSV and in MLflow's runs that are not metrics of Keras.
COLUMNS_OF_OURS = frozenset(
    {
        "epoch", "learning_rate", "epoch_seconds", "examples_per_second", "best_epoch", "train_seconds",
        "queue_seconds", "params_count",
    }
)  # fmt: skip
PREFIXES_OF_OURS = ("val_", "test_", "eval_")

Seed = Annotated[Whole, Field(ge=0, le=MAX_SEED)]
Rows = Annotated[Whole, Field(ge=1, le=MAX_ROWS)]


class LastRows(Part):
    """The last rows of the unsealed data, in their stored order; the rest is for training."""

    last: Rows

    def rows(self, available: int) -> int:
        """How many of `available` rows are for validation."""
        return self.last


class CountedRows(Part):
    """A number of rows drawn at random."""

    count: Rows
    stratify: Flag = False
    seed: Seed | None = Field(default=None, description="Null: the job's seed.")

    def rows(self, available: int) -> int:
        """How many of `available` rows are for validation."""
        return self.count


class FractionOfRows(Part):
    """A share of the rows drawn at random."""

    fraction: Annotated[Number, Field(gt=0, lt=1)]
    stratify: Flag = False
    seed: Seed | None = Field(default=None, description="Null: the job's seed.")

    def rows(self, available: int) -> int:
        """How many of `available` rows are for validation: rounded up, as scikit-learn does."""
        return math.ceil(self.fraction * available)


def _way_to_split(value: object) -> str | None:
    given = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    ways = [way for way in ("last", "count", "fraction") if way in given]
    return ways[0] if len(ways) == 1 else None


ValidationSplit = Annotated[
    Annotated[LastRows, Tag("last")]
    | Annotated[CountedRows, Tag("count")]
    | Annotated[FractionOfRows, Tag("fraction")],
    Discriminator(
        _way_to_split,
        custom_error_type="which_split",
        custom_error_message="a validation split is given in one way",
    ),
]


class SplitSpec(Part):
    """How the unsealed rows are cut; the test split is the dataset's own."""

    validation: ValidationSplit | None = None


TargetScalingName = Literal["standardize", "min_max"]


class Preprocessing(Part):
    """What happens to inputs before the first layer, as part of the saved model, and to targets."""

    scale: Number | None = Field(default=None, description="Inputs are divided by it.")
    target_scaling: TargetScalingName | None = Field(
        default=None,
        description="Regression only: targets are brought to mean 0 and standard deviation 1, or to 0 to 1, "
        "by the training rows. Metrics are in these units; predictions are in the targets' own.",
    )

    @model_validator(mode="after")
    def _scale_is_not_zero(self) -> Self:
        if self.scale is not None and abs(self.scale) < SMALLEST_SCALE:
            raise PydanticCustomError(
                "out_of_range",
                "inputs cannot be divided by 0, or by so little that the result is too large for float32",
                {"at": ["scale"], "expected": "another number, such as 255"},
            )
        return self


def _with_names(layers: tuple[AnyLayer, ...]) -> tuple[AnyLayer, ...]:
    taken = set(RESERVED_LAYER_NAMES)
    for index, layer in enumerate(layers):
        if layer.name in taken:
            raise PydanticCustomError(
                "duplicate_name",
                "two layers would be called `{name}`",
                {"name": layer.name, "at": [index, "name"], "expected": "a name that no other layer has"},
            )
        if layer.name is not None:
            taken.add(layer.name)
    return tuple(layer if layer.name else _named(layer, taken) for layer in layers)


def _named(layer: Any, taken: set[str]) -> Any:
    base = snake_case(layer.type)
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return layer.model_copy(update={"name": name})


DtypePolicy = Literal["float32", "mixed_float16", "mixed_bfloat16"]


class ModelSpec(Part):
    """Layers from inputs to outputs, as in Keras's Sequential; those without a name get Keras's."""

    layers: Annotated[
        tuple[AnyLayer, ...], Field(min_length=1, max_length=MAX_LAYERS), AfterValidator(_with_names)
    ]
    dtype_policy: DtypePolicy = Field(
        default="float32",
        description="Keras's dtype policy of the layers. A mixed one computes in 16 bits with weights of 32; "
        "preprocessing and the last layer compute in 32. With `mixed_float16` the loss is scaled.",
    )


def _told_apart(metrics: tuple[AnyMetric, ...]) -> tuple[AnyMetric, ...]:
    taken = {"loss"}
    for index, metric in enumerate(metrics):
        if metric.name in taken:
            raise PydanticCustomError(
                "duplicate_name",
                "two columns of the history would be called `{name}`",
                {"name": metric.name, "at": [index], "expected": "another `name`, or each metric once"},
            )
        if metric.name in COLUMNS_OF_OURS or metric.name.startswith(PREFIXES_OF_OURS):
            raise PydanticCustomError(
                "bad_name",
                "`{name}` would be mistaken for a figure that is kept of every job beside its metrics",
                {
                    "name": metric.name,
                    "at": [index],
                    "expected": f"another name, which begins with none of {', '.join(PREFIXES_OF_OURS)}",
                },
            )
        taken.add(metric.name)
    return metrics


def _each_once(splits: tuple[Split, ...]) -> tuple[Split, ...]:
    for index, split in enumerate(splits):
        if split in splits[:index]:
            raise PydanticCustomError(
                "duplicate_name",
                "`{name}` is named twice",
                {"name": split, "at": [index], "expected": "each split once"},
            )
    return splits


class CompileSpec(Part):
    """What Keras's `compile` takes."""

    loss: AnyLoss = Field(description="A loss, such as mse or sparse_categorical_crossentropy.")
    optimizer: AnyOptimizer = RMSprop()
    metrics: Annotated[tuple[AnyMetric, ...], Field(max_length=MAX_METRICS), AfterValidator(_told_apart)] = ()


class EarlyStopping(Part):
    """Keras's EarlyStopping."""

    monitor: str = "val_loss"
    min_delta: NotNegative = 0.0
    patience: Annotated[Whole, Field(ge=0, le=MAX_EPOCHS)] = 0
    mode: Literal["auto", "min", "max"] = "auto"
    baseline: Number | None = None
    restore_best_weights: Flag = False
    start_from_epoch: Annotated[Whole, Field(ge=0, le=MAX_EPOCHS)] = 0


def _text_keys(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key) if type(key) is int else key: weight for key, weight in value.items()}
    return value


ClassWeight = Annotated[dict[str, NotNegative], BeforeValidator(_text_keys), Field(min_length=1)]


EngineName = Literal["auto", "xla", "graph", "keras"]


class FitSpec(Part):
    """What Keras's `fit` takes."""

    epochs: Annotated[Whole, Field(ge=1, le=MAX_EPOCHS)] = Field(
        description="How often each example is seen."
    )
    batch_size: Annotated[Whole, Field(ge=1, le=MAX_BATCH_SIZE)] = 32
    early_stopping: EarlyStopping | None = None
    class_weight: ClassWeight | None = Field(
        default=None, description="A weight for each class, by its name or its id; classes not named weigh 1."
    )
    shuffle: Flag = True
    engine: EngineName = Field(
        default="auto",
        description="What runs the steps: one program compiled by XLA, a TensorFlow graph, or Keras's own "
        "fit, which is slower. `auto` chooses by the steps of an epoch and the layers, and the job says why.",
    )

    def class_weights(self, class_names: Sequence[str]) -> dict[int, float] | None:
        """The weights by class id, every class included; None if the spec has none."""
        if self.class_weight is None:
            return None
        weights = dict.fromkeys(range(len(class_names)), 1.0)
        return weights | {class_id(key, class_names): weight for key, weight in self.class_weight.items()}


def class_id(key: str, class_names: Sequence[str]) -> int:
    """The id of the class that `key` means: a name first, then an id. Raises KeyError if there is none."""
    if (name := composed(key)) in class_names:
        return class_names.index(name)
    if key.isdecimal() and key.isascii() and len(key) < 10 and int(key) < len(class_names):
        return int(key)
    raise KeyError(key)


def _name_of_dataset(data: dict[str, Any]) -> str:
    return str(data["dataset"]).partition("@")[0]


def _what_can_be_evaluated(data: dict[str, Any]) -> tuple[Split, ...]:
    return (Split.VALIDATION,) if data["split"].validation else ()


def _readable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise PydanticCustomError(
            "bad_text", "this text is empty or cannot be printed", {"expected": "a short text"}
        )
    return value


def _findable(key: str) -> str:
    if any(mark in key for mark in ':"\\'):
        raise PydanticCustomError(
            "bad_text",
            "a label's name holds a colon, a quote or a backslash, and a list could not be filtered by it",
            {"expected": "a name without them, such as course"},
        )
    return key


ShortText = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_readable)]
LabelKey = Annotated[ShortText, AfterValidator(_findable)]
LabelValue = Annotated[str, Field(max_length=256)]


class TrainSpec(Part):
    """Everything that decides what a job trains."""

    dataset: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}(@[0-9a-f]{8,64})?$")] = Field(
        description="A name, or name@version."
    )
    name: ShortText = Field(
        default_factory=_name_of_dataset, description="For people; the dataset's if left out."
    )
    split: SplitSpec = SplitSpec()
    preprocessing: Preprocessing = Preprocessing()
    model: ModelSpec = Field(description="The layers: {layers: [...]}.")
    compile: CompileSpec = Field(description="Loss, optimizer and metrics: {loss: mse}.")
    fit: FitSpec = Field(description="How long and how: {epochs: 30}.")
    evaluate: Annotated[tuple[Split, ...], AfterValidator(_each_once)] = Field(
        default_factory=_what_can_be_evaluated,
        max_length=3,
        description="Splits the finished model is evaluated on. If left out: validation, where there is one.",
    )
    seed: Seed | None = Field(default=None, description="Drawn at submit if left out, and always given back.")
    labels: dict[LabelKey, LabelValue] = Field(default={}, max_length=MAX_LABELS)

    @property
    def dataset_name(self) -> str:
        """The dataset without its version."""
        return self.dataset.partition("@")[0]

    @property
    def dataset_version(self) -> str | None:
        """The version that the spec asks for: a SHA-256 or its beginning."""
        return self.dataset.partition("@")[2] or None

    def with_seed(self, seed: int) -> Self:
        """The same spec with this seed, also for the split where that has none of its own."""
        validation = self.split.validation
        split = self.split
        if isinstance(validation, CountedRows | FractionOfRows) and validation.seed is None:
            split = SplitSpec(validation=validation.model_copy(update={"seed": seed}))
        return self.model_copy(update={"seed": seed, "split": split})

    def with_dataset_version(self, version: str) -> Self:
        """The same spec with its dataset pinned to a version."""
        return self.model_copy(update={"dataset": f"{self.dataset_name}@{version}"})

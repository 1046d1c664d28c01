"""The layers of a spec, with Keras's arguments and defaults, and what their arguments can hold."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from services.vocabulary import (
    Component,
    Decay,
    Flag,
    NotNegative,
    Number,
    Part,
    Positive,
    Share,
    Spoken,
    Whole,
)

MAX_UNITS = 16_384
LAYER_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
RESERVED_LAYER_NAMES = frozenset({"rescaling", "input_layer"})

ACTIVATION_ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}

ActivationName = Literal[
    "linear",
    "relu",
    "leaky_relu",
    "relu6",
    "elu",
    "celu",
    "selu",
    "gelu",
    "silu",
    "hard_silu",
    "mish",
    "sigmoid",
    "hard_sigmoid",
    "log_sigmoid",
    "sparse_sigmoid",
    "tanh",
    "hard_tanh",
    "tanh_shrink",
    "softmax",
    "log_softmax",
    "sparsemax",
    "softplus",
    "sparse_plus",
    "squareplus",
    "softsign",
    "soft_shrink",
    "hard_shrink",
    "exponential",
]


def _activation_name(value: object) -> object:
    if value is None:
        return "linear"
    return ACTIVATION_ALIASES.get(value, value) if isinstance(value, str) else value


Activation = Annotated[ActivationName, BeforeValidator(_activation_name)]

_NO_SEED = {"seed": "all randomness comes from the job's `seed`"}
_NO_FANS = {"input_axes": "a Dense kernel has one input axis and one output axis"}
_NO_FANS["output_axes"] = _NO_FANS["input_axes"]


class RandomComponent(Component):
    """An initializer that draws numbers; they come from the job's seed."""

    refused: ClassVar[dict[str, str]] = _NO_SEED | _NO_FANS


class Zeros(Component):
    """All zeros."""

    type: Literal["Zeros"] = "Zeros"
    aliases: ClassVar[tuple[str, ...]] = ("zero",)


class Ones(Component):
    """All ones."""

    type: Literal["Ones"] = "Ones"
    aliases: ClassVar[tuple[str, ...]] = ("one",)


class Constant(Component):
    """One value everywhere."""

    type: Literal["Constant"] = "Constant"
    value: Number = 0.0


class Identity(Component):
    """The identity matrix times `gain`; kernels only."""

    type: Literal["Identity"] = "Identity"
    aliases: ClassVar[tuple[str, ...]] = ("IdentityInitializer",)
    gain: Number = 1.0


class RandomNormal(RandomComponent):
    """A normal distribution."""

    type: Literal["RandomNormal"] = "RandomNormal"
    aliases: ClassVar[tuple[str, ...]] = ("normal",)
    mean: Number = 0.0
    stddev: NotNegative = 0.05


class TruncatedNormal(RandomComponent):
    """A normal distribution cut at two standard deviations."""

    type: Literal["TruncatedNormal"] = "TruncatedNormal"
    mean: Number = 0.0
    stddev: NotNegative = 0.05


class RandomUniform(RandomComponent):
    """A uniform distribution from `minval` to `maxval`."""

    type: Literal["RandomUniform"] = "RandomUniform"
    aliases: ClassVar[tuple[str, ...]] = ("uniform",)
    minval: Number = -0.05
    maxval: Number = 0.05


class VarianceScaling(RandomComponent):
    """A spread that follows the number of inputs, outputs or both."""

    type: Literal["VarianceScaling"] = "VarianceScaling"
    scale: Positive = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Literal["truncated_normal", "untruncated_normal", "uniform"] = "truncated_normal"


class GlorotUniform(RandomComponent):
    """Keras's default for kernels; also called Xavier uniform."""

    type: Literal["GlorotUniform"] = "GlorotUniform"


class GlorotNormal(RandomComponent):
    """Also called Xavier normal."""

    type: Literal["GlorotNormal"] = "GlorotNormal"


class HeNormal(RandomComponent):
    """For ReLU and its kin."""

    type: Literal["HeNormal"] = "HeNormal"


class HeUniform(RandomComponent):
    """For ReLU and its kin."""

    type: Literal["HeUniform"] = "HeUniform"


class LecunNormal(RandomComponent):
    """For SELU."""

    type: Literal["LecunNormal"] = "LecunNormal"


class LecunUniform(RandomComponent):
    """For SELU."""

    type: Literal["LecunUniform"] = "LecunUniform"


class Orthogonal(RandomComponent):
    """A random orthogonal matrix times `gain`; kernels only."""

    type: Literal["Orthogonal"] = "Orthogonal"
    aliases: ClassVar[tuple[str, ...]] = ("OrthogonalInitializer",)
    gain: Number = 1.0


_AnyShape = (
    Zeros
    | Ones
    | Constant
    | RandomNormal
    | TruncatedNormal
    | RandomUniform
    | VarianceScaling
    | GlorotUniform
    | GlorotNormal
    | HeNormal
    | HeUniform
    | LecunNormal
    | LecunUniform
)
VECTOR_INITIALIZERS = (
    Zeros,
    Ones,
    Constant,
    RandomNormal,
    TruncatedNormal,
    RandomUniform,
    VarianceScaling,
    GlorotUniform,
    GlorotNormal,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
)
Initializer = Annotated[
    _AnyShape | Identity | Orthogonal,
    Field(discriminator="type"),
    Spoken(*VECTOR_INITIALIZERS, Identity, Orthogonal),
]
VectorInitializer = Annotated[_AnyShape, Field(discriminator="type"), Spoken(*VECTOR_INITIALIZERS)]


class L1(Component):
    """Adds `l1` times the sum of absolute values to the loss."""

    type: Literal["L1"] = "L1"
    l1: NotNegative = 0.01


class L2(Component):
    """Adds `l2` times the sum of squares to the loss."""

    type: Literal["L2"] = "L2"
    l2: NotNegative = 0.01


class L1L2(Component):
    """Both penalties at once."""

    type: Literal["L1L2"] = "L1L2"
    l1: NotNegative = 0.0
    l2: NotNegative = 0.0


class OrthogonalRegularizer(Component):
    """Pushes rows or columns of a kernel towards right angles; kernels only."""

    type: Literal["OrthogonalRegularizer"] = "OrthogonalRegularizer"
    factor: NotNegative = 0.01
    mode: Literal["rows", "columns"] = "rows"


Regularizer = Annotated[L1 | L2 | L1L2, Field(discriminator="type"), Spoken(L1, L2, L1L2)]
KernelRegularizer = Annotated[
    L1 | L2 | L1L2 | OrthogonalRegularizer,
    Field(discriminator="type"),
    Spoken(L1, L2, L1L2, OrthogonalRegularizer),
]

KernelAxis = Annotated[Whole, Field(ge=-2, le=1)]


class NonNeg(Component):
    """Negative weights become zero."""

    type: Literal["NonNeg"] = "NonNeg"


class MaxNorm(Component):
    """Norms along `axis` stay at or below `max_value`."""

    type: Literal["MaxNorm"] = "MaxNorm"
    max_value: Positive = 2.0
    axis: KernelAxis = 0


class UnitNorm(Component):
    """Norms along `axis` are 1."""

    type: Literal["UnitNorm"] = "UnitNorm"
    axis: KernelAxis = 0


class MinMaxNorm(Component):
    """Norms along `axis` move towards the range, by `rate` at each step."""

    type: Literal["MinMaxNorm"] = "MinMaxNorm"
    min_value: NotNegative = 0.0
    max_value: Positive = 1.0
    rate: Share = 1.0
    axis: KernelAxis = 0


def _within_a_vector(constraint: Any) -> Any:
    axis = getattr(constraint, "axis", 0)
    if axis not in (0, -1):
        raise PydanticCustomError("no_such_axis", "a bias has one axis: 0", {"at": ["axis"], "expected": "0"})
    return constraint


Constraint = Annotated[
    NonNeg | MaxNorm | UnitNorm | MinMaxNorm,
    Field(discriminator="type"),
    Spoken(NonNeg, MaxNorm, UnitNorm, MinMaxNorm),
]
VectorConstraint = Annotated[Constraint, AfterValidator(_within_a_vector)]

LayerName = Annotated[str, Field(pattern=LAYER_NAME)]


class Layer(Component):
    """What every layer has."""

    name: LayerName | None = None
    refused: ClassVar[dict[str, str]] = {
        "dtype": "every layer computes in float32",
        "trainable": "every layer of a job is trained",
        "autocast": "every layer computes in float32",
        "input_shape": "the shape of the inputs comes from the dataset",
        "input_dim": "the shape of the inputs comes from the dataset",
    }

    @property
    def is_trained(self) -> bool:
        """Whether gradient descent changes its weights."""
        return False


class Rescaling(Layer):
    """What `preprocessing.scale` becomes: inputs times `scale` plus `offset`."""

    type: Literal["Rescaling"] = "Rescaling"
    scale: Number
    offset: Number = 0.0


class Flatten(Layer):
    """Makes each example one row of numbers."""

    type: Literal["Flatten"] = "Flatten"
    data_format: Literal["channels_last", "channels_first"] | None = None


class Normalization(Layer):
    """Subtracts the mean and divides by the standard deviation of the training split."""

    type: Literal["Normalization"] = "Normalization"
    axis: Annotated[Whole, Field(ge=-8, le=8)] | None = Field(
        default=-1, description="The axis that has a mean for each place; null: one mean for all."
    )
    refused: ClassVar[dict[str, str]] = Layer.refused | {
        "mean": "the mean comes from the training split",
        "variance": "the variance comes from the training split",
        "invert": "it would undo a normalization that is not there",
    }


class Dense(Layer):
    """A fully connected layer."""

    type: Literal["Dense"] = "Dense"
    units: Annotated[Whole, Field(ge=1, le=MAX_UNITS)] = Field(description="How many outputs, such as 100.")
    activation: Activation = "linear"
    use_bias: Flag = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: VectorInitializer = Zeros()
    kernel_regularizer: KernelRegularizer | None = None
    bias_regularizer: Regularizer | None = None
    activity_regularizer: Regularizer | None = None
    kernel_constraint: Constraint | None = None
    bias_constraint: VectorConstraint | None = None
    refused: ClassVar[dict[str, str]] = Layer.refused | {
        "lora_rank": "a new model has nothing to adapt",
        "lora_alpha": "a new model has nothing to adapt",
        "quantization_config": "models are trained in float32",
    }

    @property
    def is_trained(self) -> bool:
        """Always."""
        return True


class Dropout(Layer):
    """Sets a share of its inputs to zero while training."""

    type: Literal["Dropout"] = "Dropout"
    rate: Share = Field(description="The share that is dropped, such as 0.2.")
    refused: ClassVar[dict[str, str]] = (
        Layer.refused | _NO_SEED | {"noise_shape": "every input is dropped on its own"}
    )


class RenormClipping(Part):
    """Limits of batch renormalization's correction; null is no limit."""

    rmax: Positive | None = None
    rmin: NotNegative | None = None
    dmax: NotNegative | None = None


class BatchNormalization(Layer):
    """Normalizes each batch while training, and by moving averages afterwards."""

    type: Literal["BatchNormalization"] = "BatchNormalization"
    axis: Annotated[Whole, Field(ge=-8, le=8)] = -1
    momentum: Share = 0.99
    epsilon: Positive = 0.001
    center: Flag = True
    scale: Flag = True
    beta_initializer: VectorInitializer = Zeros()
    gamma_initializer: VectorInitializer = Ones()
    moving_mean_initializer: VectorInitializer = Zeros()
    moving_variance_initializer: VectorInitializer = Ones()
    beta_regularizer: Regularizer | None = None
    gamma_regularizer: Regularizer | None = None
    beta_constraint: VectorConstraint | None = None
    gamma_constraint: VectorConstraint | None = None
    renorm: Flag = False
    renorm_clipping: RenormClipping | None = None
    renorm_momentum: Decay = 0.99
    refused: ClassVar[dict[str, str]] = Layer.refused | {"synchronized": "a job runs on one device"}

    @property
    def is_trained(self) -> bool:
        """Whether it learns a scale or a centre, or keeps averages: always."""
        return True


AnyLayer = Annotated[
    Flatten | Dense | Normalization | Dropout | BatchNormalization,
    Field(discriminator="type"),
    Spoken(Flatten, Dense, Normalization, Dropout, BatchNormalization),
]

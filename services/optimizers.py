"""The optimizers of a spec, with Keras's arguments and defaults."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from services.vocabulary import Component, Decay, Flag, NotNegative, Number, Positive, Share, Spoken, Whole


class Optimizer(Component):
    """The arguments that all optimizers share."""

    learning_rate: Positive = 0.001
    weight_decay: NotNegative | None = None
    clipnorm: Positive | None = None
    clipvalue: Positive | None = None
    global_clipnorm: Positive | None = None
    use_ema: Flag = False
    ema_momentum: Share = 0.99
    ema_overwrite_frequency: Annotated[Whole, Field(ge=1, le=10**9)] | None = None
    loss_scale_factor: Positive | None = None
    gradient_accumulation_steps: Annotated[Whole, Field(ge=2, le=10**6)] | None = None
    refused: ClassVar[dict[str, str]] = {
        "name": "a job has one optimizer",
        "lr": "Keras calls it `learning_rate`",
        "decay": "Keras has dropped it; a learning rate is constant here",
    }

    @model_validator(mode="after")
    def _clips_once(self) -> Self:
        given = [k for k in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, k) is not None]
        if len(given) > 1:
            raise PydanticCustomError(
                "more_than_one",
                "{given} cannot be used together: Keras clips gradients in one way only",
                {"given": " and ".join(f"`{k}`" for k in given), "expected": "one of them"},
            )
        return self


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for."""

    type: Literal["SGD"] = "SGD"
    learning_rate: Positive = 0.01
    momentum: Share = 0.0
    nesterov: Flag = False


class Adam(Optimizer):
    """Adaptive moments."""

    type: Literal["Adam"] = "Adam"
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Positive = 1e-7
    amsgrad: Flag = False


class AdamW(Optimizer):
    """Adam with weight decay of its own."""

    type: Literal["AdamW"] = "AdamW"
    weight_decay: NotNegative = 0.004
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Positive = 1e-7
    amsgrad: Flag = False


class RMSprop(Optimizer):
    """Divides by a moving average of the gradient's size."""

    type: Literal["RMSprop"] = "RMSprop"
    rho: Decay = 0.9
    momentum: Share = 0.0
    epsilon: Positive = 1e-7
    centered: Flag = False


class Adagrad(Optimizer):
    """Divides by the sum of the gradient's squares so far."""

    type: Literal["Adagrad"] = "Adagrad"
    initial_accumulator_value: NotNegative = 0.1
    epsilon: Positive = 1e-7


class Adadelta(Optimizer):
    """Adagrad over a moving window."""

    type: Literal["Adadelta"] = "Adadelta"
    rho: Decay = 0.95
    epsilon: Positive = 1e-7


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the mean square."""

    type: Literal["Adamax"] = "Adamax"
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Positive = 1e-7


class Nadam(Optimizer):
    """Adam with Nesterov's momentum."""

    type: Literal["Nadam"] = "Nadam"
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999
    epsilon: Positive = 1e-7


class Ftrl(Optimizer):
    """Follow the regularized leader."""

    type: Literal["Ftrl"] = "Ftrl"
    learning_rate_power: Annotated[Number, Field(le=0)] = -0.5
    initial_accumulator_value: NotNegative = 0.1
    l1_regularization_strength: NotNegative = 0.0
    l2_regularization_strength: NotNegative = 0.0
    l2_shrinkage_regularization_strength: NotNegative = 0.0
    beta: NotNegative = 0.0


class Lion(Optimizer):
    """Steps by the sign of the momentum."""

    type: Literal["Lion"] = "Lion"
    beta_1: Annotated[Number, Field(gt=0, le=1)] = 0.9
    beta_2: Share = 0.99


AnyOptimizer = Annotated[
    SGD | Adam | AdamW | RMSprop | Adagrad | Adadelta | Adamax | Nadam | Ftrl | Lion,
    Field(discriminator="type"),
    Spoken(SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Nadam, Ftrl, Lion),
]

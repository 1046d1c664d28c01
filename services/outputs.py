"""What a model's outputs mean, told from its spec and its dataset: how classes and probabilities are read."""

from dataclasses import dataclass
from enum import StrEnum

from services.layers import Dense
from services.losses import BinaryCrossentropy, BinaryFocalCrossentropy, Hinge, ProbabilityLoss, SquaredHinge
from services.meaning import PROBABILITIES, Case
from services.schema import DatasetSchema, Task
from services.spec import TrainSpec


class Form(StrEnum):
    """What one row of outputs is."""

    VALUES = "values"
    """Estimated numbers, one a target."""
    YES = "yes"
    """One number, from which one of two classes is told."""
    CLASSES = "classes"
    """A number for each class; the largest wins."""
    LABELS = "labels"
    """A number for each label, which is there or not."""


class Link(StrEnum):
    """What makes probabilities of the outputs."""

    IDENTITY = "identity"
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


@dataclass(frozen=True)
class Outputs:
    """How the outputs of one model are read."""

    form: Form
    link: Link | None
    """None: they are no probabilities and none can be made of them."""
    boundary: float
    """The class or label is there from this value on: of the probability, or of the output without one."""
    names: tuple[str, ...]
    """Classes in the order of their ids, labels, or targets."""

    @property
    def thresholded(self) -> tuple[str, ...]:
        """The names that a threshold can be given for."""
        if self.link is None or self.form is Form.VALUES:
            return ()
        if self.form is Form.LABELS:
            return self.names
        return self.names[1:] if len(self.names) == 2 else ()


def outputs_of(spec: TrainSpec, schema: DatasetSchema) -> Outputs:
    """How the outputs of a model with this spec are read."""
    form = _form(spec, schema)
    target = schema.target
    if form is Form.VALUES:
        return Outputs(form, None, 0.0, tuple(target.names))
    link = _link(spec)
    # Hinges turn 0 and 1 into -1 and 1; the other losses leave them.
    is_hinge = link is None and isinstance(spec.compile.loss, Hinge | SquaredHinge)
    return Outputs(form, link, 0.0 if is_hinge else 0.5, tuple(target.class_names or target.names))


def _form(spec: TrainSpec, schema: DatasetSchema) -> Form:
    match schema.task:
        case Task.REGRESSION:
            return Form.VALUES
        case Task.MULTILABEL:
            return Form.LABELS
        case Task.BINARY if Case(spec, schema).units == 1:
            return Form.YES
    return Form.CLASSES


def _link(spec: TrainSpec) -> Link | None:
    loss, last = spec.compile.loss, spec.model.layers[-1]
    if isinstance(loss, ProbabilityLoss):
        if not loss.from_logits:
            return Link.IDENTITY
        is_binary = isinstance(loss, BinaryCrossentropy | BinaryFocalCrossentropy)
        return Link.SIGMOID if is_binary else Link.SOFTMAX
    # Other losses, such as mse, take the outputs as they are: then the activation tells.
    gives_probabilities = isinstance(last, Dense) and last.activation in PROBABILITIES
    return Link.IDENTITY if gives_probabilities else None

"""What will run, but is probably not meant: sentences that travel with the job."""

import math
from collections.abc import Callable, Iterator

from services.layers import Constant, Dense, Normalization, Zeros
from services.losses import CosineSimilarity, Truth
from services.meaning import Case
from services.metrics import AUC, Accuracy, BinaryAccuracy
from services.schema import DatasetSchema
from services.spec import TrainSpec

RANGES: dict[str, tuple[float, float]] = {
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "sparse_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "hard_tanh": (-1, 1),
    "softsign": (-1, 1),
    "relu": (0, math.inf),
    "relu6": (0, 6),
    "softplus": (0, math.inf),
    "sparse_plus": (0, math.inf),
    "squareplus": (0, math.inf),
    "exponential": (0, math.inf),
    "log_sigmoid": (-math.inf, 0),
    "log_softmax": (-math.inf, 0),
}


def doubts(spec: TrainSpec, schema: DatasetSchema | None) -> list[str]:
    """Sentences about what will run, but is probably not meant."""
    found = [sentence for doubt in DOUBTS_ALONE for sentence in doubt(spec)]
    if schema is not None:
        case = Case(spec, schema)
        found += [sentence for doubt in DOUBTS_OF_DATA for sentence in doubt(case)]
    return found


def _patience(spec: TrainSpec) -> Iterator[str]:
    stopping = spec.fit.early_stopping
    if stopping and stopping.start_from_epoch + stopping.patience >= spec.fit.epochs:
        yield (
            f"Early stopping cannot happen: it waits {stopping.start_from_epoch + stopping.patience} epochs, "
            f"and there are {spec.fit.epochs}."
        )


def _zero_kernels(spec: TrainSpec) -> Iterator[str]:
    for layer in spec.model.layers:
        kernel = layer.kernel_initializer if isinstance(layer, Dense) else None
        if isinstance(kernel, Zeros) or (isinstance(kernel, Constant) and kernel.value == 0):
            yield (
                f"The kernel of `{layer.name}` starts at zero: all its units get the same gradient, or none, "
                "and stay alike."
            )


def _linear_depth(spec: TrainSpec) -> Iterator[str]:
    dense = [layer for layer in spec.model.layers if isinstance(layer, Dense)]
    if len(dense) > 1 and all(layer.activation == "linear" for layer in dense[:-1]):
        yield "No hidden layer has an activation, so the whole model is one linear layer however deep it is."


def _logits(spec: TrainSpec) -> Iterator[str]:
    if not getattr(spec.compile.loss, "from_logits", False):
        return
    for metric in spec.compile.metrics:
        if isinstance(metric, BinaryAccuracy) or (isinstance(metric, AUC) and not metric.from_logits):
            yield f"`{metric.name}` expects probabilities, and the model gives logits."


DOUBTS_ALONE: tuple[Callable[[TrainSpec], Iterator[str]], ...] = (
    _patience,
    _zero_kernels,
    _linear_depth,
    _logits,
)


def _large_batch(case: Case) -> Iterator[str]:
    if case.spec.fit.batch_size > case.training_rows:
        yield (
            f"A batch of {case.spec.fit.batch_size} is larger than the {case.training_rows} training rows: "
            "each epoch is a single step."
        )


def _unscaled(case: Case) -> Iterator[str]:
    scaled = case.spec.preprocessing.scale is not None
    scaled = scaled or any(isinstance(layer, Normalization) for layer in case.spec.model.layers)
    features = case.schema.features
    if not scaled and len(features.shape) > 1 and features.dtype.startswith(("uint", "int")):
        largest = 255 if features.dtype == "uint8" else "large"
        yield (
            f"The inputs are whole numbers up to {largest} and are not scaled; training is slow or fails. "
            "Usual: preprocessing: {scale: 255}."
        )


def _out_of_reach(case: Case) -> Iterator[str]:
    dense, target = case.spec.model.layers[-1], case.schema.target
    if not isinstance(dense, Dense) or target.minimum is None or target.maximum is None:
        return
    least, most = target.minimum, target.maximum
    way = case.spec.preprocessing.target_scaling
    if way == "min_max":
        least, most = 0.0, 1.0
    elif way == "standardize":
        # Their mean is 0: whatever the extremes are, some lie below and some above.
        least, most = -1.0, 1.0
    low, high = RANGES.get(dense.activation, (-math.inf, math.inf))
    if least < low or most > high:
        yield (
            f"Targets go from {least:g} to {most:g}{', scaled' if way else ''}, "
            f"but {dense.activation} gives values from {low:g} to {high:g} only."
        )


def _plain_accuracy(case: Case) -> Iterator[str]:
    if case.truth is Truth.LABELS and any(isinstance(m, Accuracy) for m in case.spec.compile.metrics):
        yield "With several labels Keras's `accuracy` compares only the largest output; use BinaryAccuracy."


def _single_cosine(case: Case) -> Iterator[str]:
    kinds = (case.spec.compile.loss.type, *(metric.type for metric in case.spec.compile.metrics))
    if case.units == 1 and CosineSimilarity.__name__ in kinds:
        yield "With one output the cosine similarity is always 1 or -1."


DOUBTS_OF_DATA: tuple[Callable[[Case], Iterator[str]], ...] = (
    _large_batch,
    _unscaled,
    _out_of_reach,
    _plain_accuracy,
    _single_cosine,
)

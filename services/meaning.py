"""Whether a spec that reads well can also be trained: on its own, and on the dataset it names.

Each rule yields the problems it finds; one problem stops the job.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from services.layers import Dense, Layer, Normalization
from services.losses import (
    Loss,
    MeanSquaredLogarithmicError,
    Poisson,
    ProbabilityLoss,
    SparseCategoricalCrossentropy,
    Truth,
)
from services.metrics import AUC, Accuracy, Metric
from services.problems import Problem, pointer_to
from services.schema import DatasetSchema, Task
from services.shapes import Placed, ShapeMismatch, model_layers, place
from services.spec import MAX_PARAMETERS, CountedRows, FractionOfRows, TrainSpec, class_id
from services.states import Split
from services.vocabulary import snake_case
from services.wording import nearest

SOFTMAX = frozenset({"softmax", "sparsemax"})
PROBABILITIES = SOFTMAX | {"sigmoid", "hard_sigmoid", "sparse_sigmoid"}
SIGMOIDS = PROBABILITIES - SOFTMAX
LOOKS_LIKE = {
    Truth.NUMBERS: "numbers to be estimated",
    Truth.BINARY: "one of two classes, 0 or 1",
    Truth.CLASS_IDS: "class ids, one whole number an example",
    Truth.ONE_HOT: "one-hot rows, one column a class",
    Truth.LABELS: "several labels, each 0 or 1",
}
USUAL_LOSS = {
    Truth.NUMBERS: "mse",
    Truth.BINARY: "binary_crossentropy, with one sigmoid unit",
    Truth.CLASS_IDS: "sparse_categorical_crossentropy",
    Truth.ONE_HOT: "categorical_crossentropy",
    Truth.LABELS: "binary_crossentropy",
}
USUAL_METRICS = {
    Truth.NUMBERS: "mae or RootMeanSquaredError",
    Truth.BINARY: "accuracy or AUC",
    Truth.CLASS_IDS: "accuracy",
    Truth.ONE_HOT: "accuracy",
    Truth.LABELS: "BinaryAccuracy or AUC",
}


@dataclass(frozen=True)
class Case:
    """A spec and the dataset it would be trained on."""

    spec: TrainSpec
    schema: DatasetSchema

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """The layers with their shapes; raises ShapeMismatch."""
        return place(self.spec, self.schema)

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of one prediction."""
        return self.placed[-1].output_shape

    @property
    def truth(self) -> Truth:
        """What one target looks like to the loss."""
        match self.schema.task:
            case Task.REGRESSION:
                return Truth.NUMBERS
            case Task.MULTILABEL:
                return Truth.LABELS
            case Task.MULTICLASS:
                return Truth.CLASS_IDS if math.prod(self.schema.target.shape) == 1 else Truth.ONE_HOT
            case Task.BINARY if isinstance(self.spec.compile.loss, SparseCategoricalCrossentropy):
                return Truth.CLASS_IDS
        return Truth.BINARY

    @property
    def units(self) -> int:
        """How many outputs the targets ask for."""
        if self.truth is Truth.CLASS_IDS:
            return self.schema.target.classes or 2
        return math.prod(self.schema.target.shape)

    @property
    def targets(self) -> str:
        """Half a sentence about the targets."""
        return f"the targets of {self.schema.name} are {LOOKS_LIKE[self.truth]}"

    @property
    def validation_rows(self) -> int:
        """Rows that the split cuts from the unsealed ones."""
        validation = self.spec.split.validation
        return validation.rows(self.schema.rows.train) if validation else 0

    @property
    def training_rows(self) -> int:
        """Rows that are left to train on."""
        return self.schema.rows.train - self.validation_rows


def problems_alone(spec: TrainSpec) -> list[Problem]:
    """What is wrong with the spec whatever the dataset is."""
    return [problem for rule in RULES_ALONE for problem in rule(spec)]


def problems_with(spec: TrainSpec, schema: DatasetSchema) -> list[Problem]:
    """What is wrong with the spec for this dataset, beyond `problems_alone`."""
    case = Case(spec, schema)
    rules = RULES_OF_DATA + (RULES_OF_SHAPE if not list(_shapes(case)) else (_shapes,))
    return [problem for rule in rules for problem in rule(case)]


def _monitor(spec: TrainSpec) -> Iterator[Problem]:
    stopping = spec.fit.early_stopping
    if stopping is None or stopping.monitor in (known := history_columns(spec)):
        return
    message = f"The history will have no `{stopping.monitor}`, so early stopping would have nothing to watch."
    if stopping.monitor.startswith("val_") and spec.split.validation is None:
        message += " Columns that begin with `val_` need `split.validation`."
    elif close := nearest(stopping.monitor, known):
        message += f" Did you mean `{close}`?"
    pointer = "/fit/early_stopping/monitor"
    yield Problem("unknown_monitor", pointer, message, stopping.monitor, f"one of: {', '.join(known)}")


def history_columns(spec: TrainSpec) -> list[str]:
    """The columns that the job's history will have."""
    columns = ["loss", *(metric.name for metric in spec.compile.metrics)]
    return columns + [f"val_{name}" for name in columns] if spec.split.validation else columns


def _evaluate(spec: TrainSpec) -> Iterator[Problem]:
    if Split.VALIDATION in spec.evaluate and spec.split.validation is None:
        yield Problem(
            "nothing_to_evaluate",
            pointer_to("evaluate", spec.evaluate.index(Split.VALIDATION)),
            "`evaluate` names the validation split, but `split` cuts none from the data.",
            "validation",
            "split: {validation: {fraction: 0.2}}, or `evaluate` without validation",
        )


def _normalization(spec: TrainSpec) -> Iterator[Problem]:
    trained: Layer | None = None
    for index, layer in enumerate(spec.model.layers):
        if isinstance(layer, Normalization) and trained is not None:
            yield Problem(
                "normalization_after_training",
                pointer_to("model", "layers", index),
                f"Normalization measures the training data once, before training; after `{trained.name}`, "
                "whose outputs change with every step, those measurements would soon be wrong.",
                layer.type,
                "Normalization in front of the first Dense layer, or BatchNormalization here",
            )
        trained = trained or (layer if layer.is_trained else None)


def _activation(spec: TrainSpec) -> Iterator[Problem]:
    loss, (index, dense) = spec.compile.loss, _last_dense(spec)
    if dense is None or dense is not spec.model.layers[-1]:
        return
    pointer = pointer_to("model", "layers", index, "activation")
    if dense.units == 1 and dense.activation in SOFTMAX | {"log_softmax"}:
        yield Problem(
            "softmax_one_unit",
            pointer,
            f"{dense.activation} shares 1 among the units of its layer; a single unit always gets all of it, "
            "so every prediction would be the same.",
            dense.activation,
            "sigmoid for a yes or no, linear for a number, or one unit for each class",
        )
    elif isinstance(loss, ProbabilityLoss):
        yield from _probabilities(loss, dense.activation, pointer)


def _probabilities(loss: ProbabilityLoss, activation: str, pointer: str) -> Iterator[Problem]:
    name = snake_case(loss.type)
    if loss.from_logits and activation in PROBABILITIES:
        message = (
            f"{name} with from_logits applies {'sigmoid' if 'binary' in name else 'softmax'} itself, "
            f"and the last layer has already applied {activation}."
        )
        yield Problem(
            "activation_does_not_fit_loss", pointer, message, activation, "linear, or from_logits: false"
        )
    wanted = PROBABILITIES if "binary" in name else SOFTMAX
    if not loss.from_logits and activation not in wanted:
        usual = "sigmoid" if "binary" in name else "softmax"
        why = (
            "takes each output for a probability between 0 and 1"
            if usual == "sigmoid"
            else "takes the outputs for probabilities that add up to 1"
        )
        message = f"{name} {why}, which {activation} does not give."
        expected = f"{usual}, or linear with {{type: {loss.type}, from_logits: true}} as the loss"
        yield Problem("activation_does_not_fit_loss", pointer, message, activation, expected)


def _last_dense(spec: TrainSpec) -> tuple[int, Dense | None]:
    layers = spec.model.layers
    return next(
        ((i, x) for i in reversed(range(len(layers))) if isinstance(x := layers[i], Dense)), (0, None)
    )


RULES_ALONE: tuple[Callable[[TrainSpec], Iterator[Problem]], ...] = (
    _monitor,
    _evaluate,
    _normalization,
    _activation,
)


def _loss(case: Case) -> Iterator[Problem]:
    loss: Loss = case.spec.compile.loss
    if case.truth in loss.fits:
        return
    wanted = " or ".join(truth.value for truth in Truth if truth in loss.fits)
    message = f"{snake_case(loss.type)} is for {wanted}, but {case.targets}."
    if case.truth is Truth.CLASS_IDS and Truth.NUMBERS in loss.fits:
        message += " An id is a name, not an amount: class 8 is not twice class 4."
    yield Problem("loss_does_not_fit", "/compile/loss", message, loss.type, USUAL_LOSS[case.truth])


def _validation(case: Case) -> Iterator[Problem]:
    validation = case.spec.split.validation
    if validation is None:
        return
    way = next(iter(type(validation).model_fields))
    pointer, rows = pointer_to("split", "validation", way), case.schema.rows.train
    if case.training_rows < 1:
        message = (
            f"The validation split would take {case.validation_rows:,} of the {rows:,} rows that "
            f"{case.schema.name} has, and leave none for training."
        )
        yield Problem(
            "validation_too_large", pointer, message, getattr(validation, way), f"less than {rows:,} rows"
        )
    elif isinstance(validation, CountedRows | FractionOfRows) and validation.stratify:
        yield from _stratified(case)


def _stratified(case: Case) -> Iterator[Problem]:
    pointer = "/split/validation/stratify"
    classes = case.schema.target.classes
    if case.schema.task not in (Task.BINARY, Task.MULTICLASS) or classes is None:
        message = f"`stratify` keeps the share of each class equal in both parts, and {case.targets}."
        yield Problem("stratify_without_classes", pointer, message, True, "false")
    elif min(case.validation_rows, case.training_rows) < classes:
        message = (
            f"`stratify` needs a row of each of the {classes} classes in both parts; there would be "
            f"{case.training_rows:,} for training and {case.validation_rows:,} for validation."
        )
        yield Problem(
            "stratify_too_few_rows", pointer, message, True, f"at least {classes} rows in each part"
        )


def _class_weight(case: Case) -> Iterator[Problem]:
    weights, names = case.spec.fit.class_weight, case.schema.target.class_names or []
    if weights is None:
        return
    if case.schema.task not in (Task.BINARY, Task.MULTICLASS):
        message = f"`class_weight` weighs classes, and {case.targets}."
        yield Problem("class_weight_without_classes", "/fit/class_weight", message, expected="null")
        return
    seen: dict[int, str] = {}
    for key in weights:
        try:
            number = class_id(key, names)
        except KeyError:
            yield _unknown_class(case, key, names)
            continue
        if number in seen:
            message = f"`{seen[number]}` and `{key}` are the same class, so it would have two weights."
            yield Problem(
                "duplicate_name", pointer_to("fit", "class_weight", key), message, key, "one of the two"
            )
        seen[number] = key
    if not any({**dict.fromkeys(names, 1.0), **{names[i]: weights[k] for i, k in seen.items()}}.values()):
        message = "Every class weighs 0, so nothing would be learned."
        yield Problem(
            "out_of_range", "/fit/class_weight", message, expected="a weight above 0 for some class"
        )


def _unknown_class(case: Case, key: str, names: list[str]) -> Problem:
    close = nearest(key, names)
    message = f"{case.schema.name} has no class `{key}`." + (f" Did you mean `{close}`?" if close else "")
    expected = f"an id from 0 to {len(names) - 1}, or one of: {', '.join(names[:20])}"
    return Problem("unknown_class", pointer_to("fit", "class_weight", key), message, key, expected)


def _test_split(case: Case) -> Iterator[Problem]:
    if Split.TEST in case.spec.evaluate and case.schema.rows.test == 0:
        pointer = pointer_to("evaluate", case.spec.evaluate.index(Split.TEST))
        message = f"{case.schema.name} has no test split."
        yield Problem("nothing_to_evaluate", pointer, message, "test", "train or validation")


def _metrics(case: Case) -> Iterator[Problem]:
    for index, metric in enumerate(case.spec.compile.metrics):
        pointer = pointer_to("compile", "metrics", index)
        if case.truth not in metric.fits:
            yield _metric_misfit(case, metric, pointer)
        elif metric.needs_columns and not case.schema.target.shape:
            message = (
                f"Keras computes `{metric.name}` from columns of targets, and each target of "
                f"{case.schema.name} is a single value."
            )
            yield Problem("metric_does_not_fit", pointer, message, metric.type, USUAL_METRICS[case.truth])
        else:
            yield from _metric_arguments(case, metric, pointer)


def _metric_misfit(case: Case, metric: Metric, pointer: str) -> Problem:
    message = f"`{metric.name}` cannot be computed here: {case.targets}."
    if case.truth is Truth.NUMBERS and isinstance(metric, Accuracy):
        message += " Accuracy counts exact hits, and an estimated number is never exactly right."
    return Problem("metric_does_not_fit", pointer, message, metric.type, USUAL_METRICS[case.truth])


def _metric_arguments(case: Case, metric: Metric, pointer: str) -> Iterator[Problem]:
    outputs = case.units
    for argument, most in (("k", outputs), ("top_k", outputs), ("class_id", outputs - 1)):
        value = getattr(metric, argument, None)
        if value is not None and value > most:
            message = f"`{argument}` of {metric.type} is {value}, but there are {outputs} outputs."
            yield Problem("out_of_range", f"{pointer}/{argument}", message, value, f"{most} or less")
    if isinstance(metric, AUC):
        yield from _auc(metric, outputs, pointer)


def _auc(metric: AUC, outputs: int, pointer: str) -> Iterator[Problem]:
    if metric.num_labels is not None and metric.num_labels != outputs:
        message = f"`num_labels` of AUC is {metric.num_labels}, but there are {outputs} outputs."
        yield Problem("out_of_range", f"{pointer}/num_labels", message, metric.num_labels, str(outputs))
    if metric.label_weights is not None and len(metric.label_weights) != outputs:
        length = len(metric.label_weights)
        message = f"`label_weights` of AUC has {length} entries, but there are {outputs} outputs."
        yield Problem("out_of_range", f"{pointer}/label_weights", message, length, f"a list of {outputs}")
    if metric.label_weights is not None and not metric.multi_label:
        message = "`label_weights` of AUC weighs labels, and `multi_label` says that there are none."
        yield Problem("out_of_range", f"{pointer}/label_weights", message, expected="multi_label: true")


def _target_scaling(case: Case) -> Iterator[Problem]:
    way, loss = case.spec.preprocessing.target_scaling, case.spec.compile.loss
    pointer = "/preprocessing/target_scaling"
    if way is None:
        return
    if case.truth is not Truth.NUMBERS:
        message = f"`target_scaling` scales amounts, and {case.targets}."
        yield Problem("target_scaling_without_numbers", pointer, message, way, "null")
    elif way == "standardize" and isinstance(loss, MeanSquaredLogarithmicError | Poisson):
        message = (
            f"{snake_case(loss.type)} takes no negative targets, and standardized ones are half negative."
        )
        yield Problem("loss_does_not_fit", pointer, message, way, "min_max, or null")


RULES_OF_DATA: tuple[Callable[[Case], Iterator[Problem]], ...] = (
    _loss,
    _validation,
    _class_weight,
    _test_split,
    _metrics,
    _target_scaling,
)


def _shapes(case: Case) -> Iterator[Problem]:
    try:
        _ = case.placed
    except ShapeMismatch as error:
        index = error.index - len(model_layers(case.spec)) + len(case.spec.model.layers)
        layer = case.spec.model.layers[index]
        pointer = pointer_to("model", "layers", index, error.argument)
        message = f"The layer `{layer.name}` cannot stand here: {error}."
        yield Problem("shape_mismatch", pointer, message, getattr(layer, error.argument), error.expected)


def _parameters(case: Case) -> Iterator[Problem]:
    count = sum(placed.parameters for placed in case.placed)
    if count > MAX_PARAMETERS:
        largest = max(case.placed, key=lambda placed: placed.parameters)
        index = case.placed.index(largest) - len(case.placed) + len(case.spec.model.layers)
        message = (
            f"The model would have {count:,} parameters; at most {MAX_PARAMETERS:,} are trained here. "
            f"Most of them, {largest.parameters:,}, are in the layer `{largest.layer.name}`."
        )
        expected = f"at most {MAX_PARAMETERS:,} parameters: fewer units"
        yield Problem("too_many_parameters", pointer_to("model", "layers", index), message, count, expected)
    if not any(placed.trainable for placed in case.placed):
        message = "No layer has a weight that training could change."
        yield Problem("nothing_to_train", "/model/layers", message, expected="a Dense layer at the end")


def _output(case: Case) -> Iterator[Problem]:
    index, dense = _last_dense(case.spec)
    if dense is None:
        return
    if len(case.output) > 1:
        yield _flatten_missing(case)
    elif case.output[0] != case.units:
        yield _wrong_units(case, index, dense)


def _flatten_missing(case: Case) -> Problem:
    index = next(i for i, layer in enumerate(case.spec.model.layers) if isinstance(layer, Dense))
    shape = " x ".join(str(size) for size in case.schema.features.shape)
    message = (
        f"Each example of {case.schema.name} is an array of {shape} numbers. Dense works along its last axis "
        f"only, so each prediction would be an array, too, of shape {case.output}."
    )
    pointer = pointer_to("model", "layers", index)
    return Problem("flatten_missing", pointer, message, "Dense", "Flatten in front of the first Dense layer")


def _wrong_units(case: Case, index: int, dense: Dense) -> Problem:
    targets = {
        Truth.NUMBERS: f"{case.units} number{'s' if case.units > 1 else ''} to estimate",
        Truth.BINARY: "two classes, told apart by one output",
        Truth.CLASS_IDS: f"{case.units} classes, each with an output of its own",
        Truth.ONE_HOT: f"{case.units} classes, each with an output of its own",
        Truth.LABELS: f"{case.units} labels, each with an output of its own",
    }
    message = (
        f"The model ends in {case.output[0]} outputs, but {case.schema.name} has {targets[case.truth]}, "
        f"so the last layer needs {case.units}."
    )
    pointer = pointer_to("model", "layers", index, "units")
    return Problem("units_do_not_match", pointer, message, dense.units, f"units: {case.units}")


def _output_activation(case: Case) -> Iterator[Problem]:
    index, dense = _last_dense(case.spec)
    if dense is None or dense.activation not in SOFTMAX or dense.units == 1:
        return
    why = {
        Truth.NUMBERS: "the targets are numbers, which do not add up to 1",
        Truth.LABELS: "an example can have several labels at once, or none",
    }.get(case.truth)
    if why and dense is case.spec.model.layers[-1]:
        message = f"{dense.activation} makes the outputs add up to 1, but {why}."
        expected = "linear" if case.truth is Truth.NUMBERS else "sigmoid"
        pointer = pointer_to("model", "layers", index, "activation")
        yield Problem("activation_does_not_fit_task", pointer, message, dense.activation, expected)


RULES_OF_SHAPE: tuple[Callable[[Case], Iterator[Problem]], ...] = (
    _parameters,
    _output,
    _output_activation,
)

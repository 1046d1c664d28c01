"""Wrong specs: one mistake each, and the code and the place that each must give."""

import json
from random import Random
from typing import Any

import pytest

from services.checking import check, warnings
from services.problems import Problem, SpecInvalid
from services.schema import DatasetSchema, Task
from tests.specs import FASHION, GONE, HOUSING, make_document, make_housing, make_layers, make_schema

IMAGES = make_schema()
ONE_HOT = make_schema(target=(10,))
BINARY = make_schema(Task.BINARY, name="spam", features=(20,), dtype="float32", classes=2)
LABELS = make_schema(Task.MULTILABEL, name="mails", features=(20,), dtype="float32", target=(2,), classes=2)
HOUSES = make_housing()

STOPPING = "fit__early_stopping"
LAST = "/model/layers/3"


def binary_document(**changes: Any) -> dict[str, Any]:
    usual = {
        "dataset": "spam",
        "model": make_layers({"type": "Dense", "units": 1, "activation": "sigmoid"}),
        "compile": {"loss": "binary_crossentropy", "metrics": ["accuracy"]},
    }
    return make_document(**(usual | changes))


def problems_of(document: Any, schema: DatasetSchema | None) -> tuple[Problem, ...]:
    with pytest.raises(SpecInvalid) as caught:
        check(document, schema)
    return caught.value.problems


FORM: list[tuple[Any, str, str]] = [
    (make_document(fit__epochs=GONE), "missing_key", "/fit/epochs"),
    (make_document(dataset=GONE), "missing_key", "/dataset"),
    (make_document(compile__loss=GONE), "missing_key", "/compile/loss"),
    (make_document(fit__epoch=30), "unknown_key", "/fit/epoch"),
    (make_document(preprocessing__target_scaling="log"), "unknown_name", "/preprocessing/target_scaling"),
    (make_document(preprocessing__scale=1e-310), "out_of_range", "/preprocessing/scale"),
    (make_document(fit__class_weight={"0": 1e308}), "out_of_range", "/fit/class_weight/0"),
    (make_document(labels={"a:b": "c"}), "bad_text", "/labels/a:b"),
    (
        make_document(compile__metrics=[{"type": "accuracy", "name": "learning_rate"}]),
        "bad_name",
        "/compile/metrics/0/name",
    ),
    (
        make_document(compile__metrics=[{"type": "accuracy", "name": "test_accuracy"}]),
        "bad_name",
        "/compile/metrics/0/name",
    ),
    (
        make_document(HOUSING, compile__metrics=[{"type": "R2Score", "num_regressors": 8}]),
        "out_of_range",
        "/compile/metrics/0/num_regressors",
    ),
    (make_document(modle={}), "unknown_key", "/modle"),
    (make_document(model__layers__1__unit=3), "unknown_key", "/model/layers/1/unit"),
    (make_document(model__layers__1__seed=3), "unknown_key", "/model/layers/1/seed"),
    (
        make_document(model__layers__1={"type": "Dropout", "rate": 0.5, "seed": 3}),
        "refused_key",
        "/model/layers/1/seed",
    ),
    (make_document(compile__optimizer__lr=0.1), "refused_key", "/compile/optimizer/lr"),
    (make_document(model__layers__1="Dense"), "missing_key", "/model/layers/1"),
    (make_document(model__layers__1={"type": "Dens", "units": 3}), "unknown_type", "/model/layers/1/type"),
    (make_document(model__layers__0="Flaten"), "unknown_type", "/model/layers/0"),
    (make_document(model__layers__1={"units": 3}), "missing_key", "/model/layers/1"),
    (make_document(model__layers__1=3), "wrong_type", "/model/layers/1"),
    (make_document(model__layers__1__units=0), "out_of_range", "/model/layers/1/units"),
    (make_document(model__layers__1__units="300"), "wrong_type", "/model/layers/1/units"),
    (make_document(model__layers__1__units=3.5), "wrong_type", "/model/layers/1/units"),
    (make_document(model__layers__1__units=True), "wrong_type", "/model/layers/1/units"),
    (make_document(model__layers__1__units=10**400), "out_of_range", "/model/layers/1/units"),
    (make_document(model__layers__1__units=20_000), "out_of_range", "/model/layers/1/units"),
    (make_document(model__layers__1__activation="relou"), "unknown_name", "/model/layers/1/activation"),
    (make_document(model__layers__1__activation="glu"), "unknown_name", "/model/layers/1/activation"),
    (make_document(model__layers__1__use_bias="yes"), "wrong_type", "/model/layers/1/use_bias"),
    (
        make_document(model__layers__1__kernel_initializer="he_norml"),
        "unknown_type",
        "/model/layers/1/kernel_initializer",
    ),
    (
        make_document(model__layers__1__kernel_regularizer={"type": "l2", "l2": -1}),
        "out_of_range",
        "/model/layers/1/kernel_regularizer/l2",
    ),
    (
        make_document(model__layers__1__bias_constraint={"type": "max_norm", "axis": 1}),
        "no_such_axis",
        "/model/layers/1/bias_constraint/axis",
    ),
    (make_document(model=make_layers()), "too_few", "/model/layers"),
    (make_document(model=make_layers(*["Flatten"] * 65)), "too_many", "/model/layers"),
    (make_document(model__layers="Dense"), "wrong_type", "/model/layers"),
    (
        make_document(
            model__layers__1={"type": "Dense", "units": 3, "name": "a"},
            model__layers__2={"type": "Dense", "units": 3, "name": "a"},
        ),
        "duplicate_name",
        "/model/layers/2/name",
    ),
    (make_document(model__layers__1__name="a b"), "bad_name", "/model/layers/1/name"),
    (make_document(compile__optimizer="Adamm"), "unknown_type", "/compile/optimizer"),
    (make_document(compile__optimizer__learning_rate=0), "out_of_range", "/compile/optimizer/learning_rate"),
    (
        make_document(compile__optimizer__learning_rate="1e-3"),
        "wrong_type",
        "/compile/optimizer/learning_rate",
    ),
    (
        make_document(compile__optimizer__learning_rate=float("nan")),
        "out_of_range",
        "/compile/optimizer/learning_rate",
    ),
    (
        make_document(compile__optimizer={"type": "Adam", "clipnorm": 1, "clipvalue": 1}),
        "more_than_one",
        "/compile/optimizer",
    ),
    (make_document(compile__metrics=["acuracy"]), "unknown_type", "/compile/metrics/0"),
    (make_document(compile__metrics=["accuracy", "accuracy"]), "duplicate_name", "/compile/metrics/1"),
    (make_document(compile__metrics="accuracy"), "wrong_type", "/compile/metrics"),
    (make_document(compile__metrics=[{"type": "F1Score"}]), "missing_key", "/compile/metrics/0/average"),
    (make_document(compile__loss="mean_square_eror"), "unknown_type", "/compile/loss"),
    (make_document(split__validation={}), "which_split", "/split/validation"),
    (make_document(split__validation={"last": 3, "count": 3}), "which_split", "/split/validation"),
    (make_document(split__validation={"fraction": 1}), "out_of_range", "/split/validation/fraction"),
    (make_document(split__validation={"last": 3, "seed": 1}), "unknown_key", "/split/validation/seed"),
    (make_document(preprocessing__scale=0), "out_of_range", "/preprocessing/scale"),
    (make_document(fit__batch_size=0), "out_of_range", "/fit/batch_size"),
    (make_document(fit__batch_size=65_537), "out_of_range", "/fit/batch_size"),
    (make_document(fit__epochs=10_001), "out_of_range", "/fit/epochs"),
    (make_document(fit__class_weight={"1": "heavy"}), "wrong_type", "/fit/class_weight/1"),
    (make_document(evaluate=["training"]), "unknown_name", "/evaluate/0"),
    (make_document(evaluate=["test", "test"]), "duplicate_name", "/evaluate/1"),
    (make_document(seed=-1), "out_of_range", "/seed"),
    (make_document(dataset="Fashion MNIST"), "bad_name", "/dataset"),
    (make_document(name=""), "too_few", "/name"),
    (make_document(labels={"course": 3}), "wrong_type", "/labels/course"),
    ([], "wrong_type", ""),
    (None, "wrong_type", ""),
]

ALONE: list[tuple[Any, str, str]] = [
    (make_document(split=GONE, fit__early_stopping={}), "unknown_monitor", "/fit/early_stopping/monitor"),
    (
        make_document(fit__early_stopping={"monitor": "val_acuracy"}),
        "unknown_monitor",
        "/fit/early_stopping/monitor",
    ),
    (make_document(split=GONE, evaluate=["train", "validation"]), "nothing_to_evaluate", "/evaluate/1"),
    (make_document(model__layers__2="Normalization"), "normalization_after_training", "/model/layers/2"),
    (
        make_document(model__layers__3__activation="sigmoid"),
        "activation_does_not_fit_loss",
        f"{LAST}/activation",
    ),
    (make_document(model__layers__3__activation=None), "activation_does_not_fit_loss", f"{LAST}/activation"),
    (
        make_document(compile__loss={"type": "SparseCategoricalCrossentropy", "from_logits": True}),
        "activation_does_not_fit_loss",
        f"{LAST}/activation",
    ),
    (
        binary_document(model__layers__0__activation="tanh"),
        "activation_does_not_fit_loss",
        "/model/layers/0/activation",
    ),
    (
        binary_document(model__layers__0__activation="softmax"),
        "softmax_one_unit",
        "/model/layers/0/activation",
    ),
]

SCALING = "/preprocessing/target_scaling"
WITH_DATA = [
    (
        make_document(preprocessing__target_scaling="min_max"),
        IMAGES,
        "target_scaling_without_numbers",
        SCALING,
    ),
    (
        make_document(HOUSING, preprocessing__target_scaling="standardize", compile__loss="poisson"),
        HOUSES,
        "loss_does_not_fit",
        SCALING,
    ),
    (make_document(model__layers__3__units=9), IMAGES, "units_do_not_match", f"{LAST}/units"),
    (make_document(compile__loss="categorical_crossentropy"), IMAGES, "loss_does_not_fit", "/compile/loss"),
    (make_document(), ONE_HOT, "loss_does_not_fit", "/compile/loss"),
    (make_document(compile__loss="mse"), IMAGES, "loss_does_not_fit", "/compile/loss"),
    (make_document(model__layers__0="Normalization"), IMAGES, "flatten_missing", "/model/layers/1"),
    (
        make_document(split__validation={"last": 60_000}),
        IMAGES,
        "validation_too_large",
        "/split/validation/last",
    ),
    (
        make_document(HOUSING, split__validation={"fraction": 0.25, "stratify": True}),
        HOUSES,
        "stratify_without_classes",
        "/split/validation/stratify",
    ),
    (
        make_document(split__validation={"count": 9, "stratify": True}),
        IMAGES,
        "stratify_too_few_rows",
        "/split/validation/stratify",
    ),
    (make_document(fit__class_weight={"clas_1": 2}), IMAGES, "unknown_class", "/fit/class_weight/clas_1"),
    (make_document(fit__class_weight={"10": 2}), IMAGES, "unknown_class", "/fit/class_weight/10"),
    (
        make_document(fit__class_weight={"1": 2, "class_1": 2}),
        IMAGES,
        "duplicate_name",
        "/fit/class_weight/class_1",
    ),
    (
        make_document(HOUSING, fit__class_weight={"0": 2}),
        HOUSES,
        "class_weight_without_classes",
        "/fit/class_weight",
    ),
    (
        make_document(HOUSING, compile__metrics=["accuracy"]),
        HOUSES,
        "metric_does_not_fit",
        "/compile/metrics/0",
    ),
    (
        binary_document(compile__metrics=[{"type": "F1Score", "average": "micro"}]),
        BINARY,
        "metric_does_not_fit",
        "/compile/metrics/0",
    ),
    *(
        (binary_document(compile__metrics=[metric]), BINARY, "metric_does_not_fit", "/compile/metrics/0")
        for metric in ("Hinge", "SquaredHinge")
    ),
    (
        make_document(HOUSING, compile__metrics=["Poisson"]),
        HOUSES,
        "metric_does_not_fit",
        "/compile/metrics/0",
    ),
    (make_document(compile__metrics=["AUC"]), IMAGES, "metric_does_not_fit", "/compile/metrics/0"),
    (
        make_document(compile__metrics=[{"type": "SparseTopKCategoricalAccuracy", "k": 11}]),
        IMAGES,
        "out_of_range",
        "/compile/metrics/0/k",
    ),
    (
        make_document(HOUSING, model__layers__2={"type": "Dense", "units": 2, "activation": "softmax"}),
        make_housing(target=(2,)),
        "activation_does_not_fit_task",
        "/model/layers/2/activation",
    ),
    (
        make_document(HOUSING, compile__loss="binary_crossentropy", model__layers__2__activation="sigmoid"),
        HOUSES,
        "loss_does_not_fit",
        "/compile/loss",
    ),
    (
        binary_document(model__layers__0={"type": "Dense", "units": 2, "activation": "softmax"}),
        LABELS,
        "activation_does_not_fit_task",
        "/model/layers/0/activation",
    ),
    (binary_document(model__layers__0__units=2), BINARY, "units_do_not_match", "/model/layers/0/units"),
    (make_document(evaluate=["test"]), make_schema(test=0), "nothing_to_evaluate", "/evaluate/0"),
    (
        make_document(
            model__layers__1={"type": "Dense", "units": 16_384},
            model__layers__2={"type": "Dense", "units": 16_384},
        ),
        IMAGES,
        "too_many_parameters",
        "/model/layers/2",
    ),
    (
        make_document(model__layers__1={"type": "BatchNormalization", "axis": 2}),
        IMAGES,
        "shape_mismatch",
        "/model/layers/1/axis",
    ),
    (
        make_document(HOUSING, model=make_layers("Normalization")),
        make_housing(features=(1,)),
        "nothing_to_train",
        "/model/layers",
    ),
]


@pytest.mark.parametrize(("document", "code", "pointer"), FORM + ALONE)
def test_each_mistake_is_found_without_a_dataset(document: Any, code: str, pointer: str) -> None:
    (problem,) = problems_of(document, None)
    assert (problem.code, problem.pointer) == (code, pointer)
    assert problem.message.endswith((".", "?"))
    assert problem.expected


@pytest.mark.parametrize(("document", "schema", "code", "pointer"), WITH_DATA)
def test_each_mistake_is_found_with_its_dataset(
    document: Any, schema: DatasetSchema, code: str, pointer: str
) -> None:
    (problem,) = problems_of(document, schema)
    assert (problem.code, problem.pointer) == (code, pointer)
    assert problem.message.endswith((".", "?"))
    assert problem.expected


def test_all_problems_of_form_come_at_once() -> None:
    document = make_document(
        fit={"epoch": 3}, seed="x", model__layers__1__units=-1, compile__optimizer="adm", labels=[]
    )
    found = {(p.code, p.pointer) for p in problems_of(document, IMAGES)}
    assert found == {
        ("missing_key", "/fit/epochs"),
        ("unknown_key", "/fit/epoch"),
        ("wrong_type", "/seed"),
        ("out_of_range", "/model/layers/1/units"),
        ("unknown_type", "/compile/optimizer"),
        ("wrong_type", "/labels"),
    }


def test_all_problems_of_meaning_come_at_once() -> None:
    document = make_document(
        model__layers__3__units=9,
        model__layers__3__activation="sigmoid",
        fit__early_stopping={"monitor": "val_los"},
        fit__class_weight={"boot": 2},
        split__validation={"last": 70_000},
    )
    assert sorted(p.code for p in problems_of(document, IMAGES)) == [
        "activation_does_not_fit_loss",
        "units_do_not_match",
        "unknown_class",
        "unknown_monitor",
        "validation_too_large",
    ]


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (make_document(fit__epoch=30), "`epochs`"),
        (make_document(model__layers__1__activatoin="relu"), "`activation`"),
        (make_document(model__layers__1__activation="ReLU"), "`relu`"),
        (make_document(compile__optimizer="adamm"), "`Adam"),
        (make_document(compile__metrics=["acuracy"]), "`accuracy`"),
        (make_document(fit__early_stopping={"monitor": "val_acuracy"}), "`val_accuracy`"),
    ],
)
def test_the_nearest_name_is_offered(document: Any, name: str) -> None:
    (problem,) = problems_of(document, None)
    assert "Did you mean " + name in problem.message


def test_a_damaged_spec_is_refused_with_places_that_exist_or_read_as_a_spec() -> None:
    random = Random(42)
    for _ in range(500):
        document = make_document(
            random.choice([FASHION, HOUSING]), fit__early_stopping={"patience": 3}, fit__class_weight={"1": 2}
        )
        for _ in range(random.randint(1, 3)):
            damage(document, random)
        for problem in problems_if_any(
            document, random.choice([IMAGES, ONE_HOT, BINARY, LABELS, HOUSES, None])
        ):
            json.dumps(problem.received, allow_nan=False)
            assert place_exists(document, problem)


def problems_if_any(document: Any, schema: DatasetSchema | None) -> tuple[Problem, ...]:
    try:
        spec = check(document, schema)
    except SpecInvalid as error:
        return error.problems
    assert check(spec.model_dump(mode="json"), None) == spec
    return ()


def damage(document: Any, random: Random) -> None:
    """Put something strange at one place, or take it away."""
    node = document
    while True:
        if not isinstance(node, dict | list) or not node:
            return
        step = random.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
        if isinstance(node[step], dict | list) and node[step] and random.random() < 0.8:
            node = node[step]
            continue
        strange: list[Any] = [
            None,
            True,
            -1,
            0,
            1,
            0.5,
            10**30,
            float("inf"),
            "",
            "x",
            "relu",
            "dense",
            [],
            {},
            [[]],
            {"a": []},
        ]
        if random.random() < 0.2:
            del node[step]
        else:
            node[step] = random.choice(strange)
        return


def place_exists(document: Any, problem: Problem) -> bool:
    """Whether a pointer leads to something, or to a key that something could have."""
    node = document
    *steps, last = problem.pointer.split("/")[1:] or [""]
    for step in steps:
        node = node[int(step) if isinstance(node, list) else step]
    return isinstance(node, dict) or (isinstance(node, list) and int(last) < len(node))


def test_a_pointer_ends_where_a_short_form_stands() -> None:
    document = make_document(HOUSING, model__layers__0="BatchNormalization")
    (problem,) = problems_of(document, make_housing(features=()))[:1]
    assert (problem.code, problem.pointer) == ("shape_mismatch", "/model/layers/0")


def test_what_came_can_always_be_sent_as_json() -> None:
    document = make_document(
        fit__epochs=float("inf"), seed=10**400, name={"a": float("nan")}, labels={"a": "x" * 10_000}
    )
    for problem in problems_of(document, None):
        assert len(json.dumps(problem.received, allow_nan=False)) < 300


def test_pointers_escape_slashes_and_tildes() -> None:
    (problem,) = problems_of(make_document() | {"a/b~c": 1}, None)
    assert problem.pointer == "/a~1b~0c"


@pytest.mark.parametrize(
    ("document", "schema", "words"),
    [
        (make_document(preprocessing=GONE), IMAGES, "not scaled"),
        (make_document(fit__early_stopping={"patience": 30}), IMAGES, "Early stopping cannot happen"),
        (make_document(model__layers__1__kernel_initializer="zeros"), IMAGES, "starts at zero"),
        (
            make_document(model__layers__1__activation=None, model__layers__2__activation=None),
            IMAGES,
            "one linear layer",
        ),
        (make_document(HOUSING), make_housing(train=20), "single step"),
        (make_document(HOUSING, model__layers__2__activation="sigmoid"), HOUSES, "values from 0 to 1 only"),
        (
            make_document(
                HOUSING, model__layers__2__activation="relu", preprocessing__target_scaling="standardize"
            ),
            HOUSES,
            "Targets go from -1 to 1, scaled",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(document: Any, schema: DatasetSchema, words: str) -> None:
    (sentence,) = warnings(check(document, schema), schema)
    assert words in sentence


@pytest.mark.parametrize("schema", [IMAGES, None])
def test_a_sound_spec_has_neither_problems_nor_warnings(schema: DatasetSchema | None) -> None:
    assert warnings(check(make_document(), schema), schema) == []


def test_scaled_targets_may_be_in_reach_of_an_activation() -> None:
    document = make_document(
        HOUSING, model__layers__2__activation="sigmoid", preprocessing__target_scaling="min_max"
    )
    assert warnings(check(document, HOUSES), HOUSES) == []


def test_entries_that_are_wrong_are_not_missing_as_well() -> None:
    (problem,) = problems_of(make_document(model={"layers": ["Dense"]}), None)
    assert (problem.code, problem.pointer) == ("missing_key", "/model/layers/0")


def test_an_empty_document_is_named_as_nothing() -> None:
    (problem,) = problems_of(None, None)
    assert problem.received == "nothing"

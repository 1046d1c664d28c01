"""Rows in JSON become a model's inputs, or each that cannot is named."""

import math

import numpy as np
import pytest

from services.catalogue import CATALOGUE
from services.schema import Column, DatasetSchema, Features, Rows, Target, Task
from worker.encoding import RowsInvalid, encode_rows, unknown_categories

TABLE = DatasetSchema(
    name="people",
    task=Task.REGRESSION,
    features=Features(
        shape=(5,),
        dtype="float32",
        names=["age", "city=Bonn", "city=Köln", "city=unknown", "income"],
        columns=[
            Column(name="age", kind="numeric", impute=40.5),
            Column(name="city", kind="categorical", categories=["Bonn", "Köln", "unknown"], impute="unknown"),
            Column(name="income", kind="numeric"),
        ],
    ),
    target=Target(shape=(), dtype="float32", names=["rent"]),
    rows=Rows(train=10, test=2),
)
CODES = TABLE.model_copy(
    update={
        "features": Features(
            shape=(2,),
            dtype="float32",
            names=["zone=1", "zone=true"],
            columns=[Column(name="zone", kind="categorical", categories=["1", "true"])],
        )
    }
)


def found(schema: DatasetSchema, *rows: object) -> list[tuple[str, int | None, str | None]]:
    with pytest.raises(RowsInvalid) as caught:
        encode_rows(schema, rows)
    return [(problem.code, problem.line, problem.column) for problem in caught.value.problems]


def test_a_row_may_be_an_object_a_list_of_raw_values_or_of_inputs() -> None:
    rows = [
        {"age": 30, "city": "Köln", "income": 2.5, "rent": 9.0},
        [30, "Köln", 2.5],
        [30, 0, 1, 0, 2.5],
    ]
    inputs = encode_rows(TABLE, rows)
    assert inputs.dtype == np.float32
    assert inputs.tolist() == [[30, 0, 1, 0, 2.5]] * 3


def test_a_missing_value_is_filled_in_and_an_unknown_category_gives_zeros() -> None:
    rows = [{"age": None, "city": None, "income": 1}, {"age": 1, "city": "Ulm", "income": 1}]
    assert encode_rows(TABLE, rows).tolist() == [[40.5, 0, 0, 1, 1], [1, 0, 0, 0, 1]]


def test_an_unknown_category_is_noticed_by_column_with_its_first_row() -> None:
    rows = [{"age": 1, "city": city, "income": 1} for city in ("Bonn", "Köln", "unknown", "Ulm", "ulm")]
    (noticed,) = unknown_categories(TABLE, encode_rows(TABLE, rows))
    assert (noticed.code, noticed.column, noticed.line, noticed.count) == ("unknown_category", "city", 4, 2)
    assert unknown_categories(TABLE, encode_rows(TABLE, [{"age": 0, "city": None, "income": 0}])) == []


def test_a_category_that_reads_like_a_number_may_be_sent_as_one() -> None:
    assert encode_rows(CODES, [[1], [1.0], [True], ["1"]]).tolist() == [[1, 0], [1, 0], [0, 1], [1, 0]]


def test_no_rows_are_no_inputs() -> None:
    assert encode_rows(TABLE, []).shape == (0, 5)
    assert encode_rows(CATALOGUE["mnist"].schema, []).shape == (0, 28, 28)


def test_all_that_is_wrong_with_rows_is_said_at_once() -> None:
    assert found(
        TABLE,
        {"age": "thirty", "city": [], "income": None},
        {"Age": 3, "city": "Bonn", "income": math.inf},
        [1, 2],
        "row",
        {"age": True, "city": "Bonn", "income": 10**400},
        [1, 2, 3, 4, None],
        {"age": 1, "city": "Bonn", "income": 1},
    ) == [
        ("unknown_column", 2, "Age"),
        ("missing_column", 2, "age"),
        ("wrong_shape", 3, None),
        ("wrong_type", 4, None),
        ("not_a_number", 1, "age"),
        ("not_a_number", 5, "age"),
        ("wrong_type", 1, "city"),
        ("missing_value", 1, "income"),
        ("not_finite", 2, "income"),
        ("not_finite", 5, "income"),
        ("not_a_number", 6, None),
    ]


def test_a_number_that_the_inputs_cannot_hold_is_refused_by_name() -> None:
    assert found(TABLE, [1, "Bonn", 1], [1, "Bonn", 1e39]) == [("out_of_range", 2, None)]
    assert found(CATALOGUE["iris"].schema, [1, 2, 3, 1e39]) == [("out_of_range", 1, "petal width (cm)")]


def test_a_table_of_the_catalogue_takes_rows_by_name_or_in_order() -> None:
    schema = CATALOGUE["iris"].schema
    names = schema.features.names or []
    rows = [dict(zip(names, [1, 2, 3, 4], strict=True)), [1, 2, 3, 4]]
    assert encode_rows(schema, rows).tolist() == [[1, 2, 3, 4]] * 2
    assert found(schema, [1, 2, 3]) == [("wrong_shape", 1, None)]


def test_pictures_are_nested_lists_of_their_shape_and_type() -> None:
    schema = CATALOGUE["mnist"].schema
    picture = np.zeros((28, 28), int).tolist()
    assert encode_rows(schema, [picture, picture]).dtype == np.uint8
    wrong = [[0] * 28 for _ in range(28)]
    wrong[3][4] = 256
    half = [[0.5] * 28 for _ in range(28)]
    text = [["0"] * 28 for _ in range(28)]
    assert found(schema, wrong)[0] == ("out_of_range", 1, None)
    assert found(schema, half)[0][0] == "out_of_range"
    assert found(schema, text) == [("not_a_number", 1, None)]
    assert found(schema, picture[:-1], [[1], [2, 3]], {"pixel": 1}) == [
        ("wrong_shape", 1, None),
        ("wrong_shape", 2, None),
        ("wrong_type", 3, None),
    ]


def test_at_most_a_hundred_problems_are_listed() -> None:
    assert len(found(TABLE, *([["x", "Bonn", 1]] * 300))) == 100

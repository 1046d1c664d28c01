"""What is made of files that can be read: inputs, targets, splits, weights, statistics and warnings."""

import io
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.schema import DatasetSchema
from tests.uploading import PEOPLE, problems_of, read
from worker import upload_child
from worker.encoding import encode_rows
from worker.rows_child import prepare_rows
from worker.tables import csv_file, repeats
from worker.tables.findings import FileRefused, Findings
from worker.tables.parquet_file import read_parquet
from worker.tables.reading import SentFile
from worker.tables.rows import read_rows

ROWS = re.findall(r"(\d+),(\".*?\"|\w+),([\d.]+),(\d+)", PEOPLE)


def packed(**arrays: Any) -> bytes:
    """An NPZ file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def parquet(**columns: Any) -> bytes:
    """A Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def in_columns() -> dict[str, list[Any]]:
    ages, cities, incomes, rents = zip(*ROWS, strict=True)
    return {
        "age": [int(age) for age in ages],
        "city": [city.strip('"') for city in cities],
        "income": [float(income) for income in incomes],
        "rent": [int(rent) for rent in rents],
    }


SAME: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "as it is": (PEOPLE, {}),
    "with a byte order mark": ("\ufeff" + PEOPLE, {}),
    "with CRLF": (PEOPLE.replace("\n", "\r\n"), {}),
    "with CR": (PEOPLE.replace("\n", "\r"), {}),
    "without a last line end": (PEOPLE.rstrip(), {}),
    "with blank lines": ("\n" + PEOPLE.replace("\n", "\n\n"), {}),
    "with blanks around values": (re.sub(r"(\d),(\w)", r"\1 , \2", PEOPLE).replace("income", " income "), {}),
    "with everything quoted": (
        re.sub(r'"?(Bad Honnef, Rhein|[\w.]+)"?', r'"\1"', PEOPLE),
        {},
    ),
    "with semicolons": ("\n".join([PEOPLE.splitlines()[0].replace(",", ";"), *map(";".join, ROWS)]), {}),
    "with decimal commas": (
        "\n".join(["age;city;income;rent", *(";".join(row).replace(".", ",") for row in ROWS)]),
        {},
    ),
    "with tabs": ("\n".join(["age\tcity\tincome\trent", *map("\t".join, ROWS)]), {}),
    "as Parquet": (parquet(**in_columns()), {}),
    "as Parquet of odd types": (
        parquet(
            age=pa.array(in_columns()["age"], "uint8"),
            city=pa.array(in_columns()["city"]).dictionary_encode(),
            income=pa.array(in_columns()["income"], "float32"),
            rent=pa.array(in_columns()["rent"]).cast(pa.decimal128(22, 2)),
            __index_level_0__=pa.array(range(6)),
        ),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SAME)
def test_a_table_is_read_alike_however_it_is_written(tmp_path: Path, how: str) -> None:
    plain, _ = read(tmp_path)
    content, said = SAME[how]
    made, warnings = read(tmp_path, content, **said)
    assert made.schema == plain.schema
    assert {part: array.tolist() for part, array in made.arrays.items()} == {
        part: array.tolist() for part, array in plain.arrays.items()
    }
    assert warnings == []


def test_inputs_targets_and_sealed_rows_are_what_the_table_says(tmp_path: Path) -> None:
    made, _ = read(tmp_path, test={"last": 1})
    assert made.schema.features.names == [
        "age",
        "city=Bad Honnef, Rhein",
        "city=Bonn",
        "city=Köln",
        "income",
    ]
    assert made.arrays["train/x"].tolist() == [
        [30, 0, 1, 0, 2.5],
        [41, 0, 0, 1, 3.5],
        [25, 0, 1, 0, 2.0],
        [38, 1, 0, 0, 3.0],
        [52, 0, 0, 1, 4.5],
    ]
    assert made.arrays["train/y"].tolist() == [700, 900, 650, 800, 1100]
    assert made.arrays["test/x"].tolist() == [[29, 0, 1, 0, 2.25]]
    assert (made.schema.target.minimum, made.schema.target.maximum) == (650, 1100)
    assert {array.dtype.name for array in made.arrays.values()} == {"float32"}


def test_drawn_rows_are_those_of_scikit_learn_and_of_the_seed(tmp_path: Path) -> None:
    from sklearn.model_selection import train_test_split

    table = "a,rent\n" + "".join(f"{n},{n}\n" for n in range(50))
    for seed in (0, 7):
        made, _ = read(tmp_path, table, categorical=None, seed=seed, test={"fraction": 0.25})
        train, test = train_test_split(np.arange(50), test_size=0.25, random_state=seed)
        assert made.arrays["test/y"].tolist() == sorted(test.tolist())
        assert made.arrays["train/y"].tolist() == sorted(train.tolist())
    none, _ = read(tmp_path, table, categorical=None, test=None)
    assert (none.schema.rows.train, none.schema.rows.test) == (50, 0)


def test_what_is_filled_in_is_of_the_training_rows(tmp_path: Path) -> None:
    table = (
        "part,a,b,c,rent\n"
        "train,1,x,1,1\ntrain,,x,2,2\ntrain,4,,4,3\ntrain,7,y,2,4\n"
        "validation,1000,z,900,5\ntest,,w,,6\n"
    )
    rules = {"a": "mean", "b": "most_frequent", "c": "median"}
    made, warnings = read(tmp_path, table, categorical=["b"], split_column="part", missing=rules)
    columns = {column.name: column for column in made.schema.features.columns or []}
    assert (columns["a"].impute, columns["b"].impute, columns["c"].impute) == (4.0, "x", 2.0)
    assert columns["b"].categories == ["x", "y"]
    assert made.arrays["train/x"][:, 0].tolist() == [1, 4, 4, 7, 1000]
    assert made.arrays["test/x"].tolist() == [[4, 0, 0, 2]]
    assert made.schema.rows.model_dump() == {"train": 5, "test": 1, "validation": 1}
    assert [(one.code, one.line, one.count) for one in warnings] == [("category_not_in_training", 6, 2)]
    constants = {"a": -1, "b": "none", "c": "most_frequent"}
    made, _ = read(tmp_path, table, categorical=["b"], split_column="part", missing=constants)
    assert (made.schema.features.columns or [])[1].categories == ["x", "y", "none"]
    assert made.arrays["train/x"][:3].tolist() == [[1, 1, 0, 0, 1], [-1, 1, 0, 0, 2], [4, 0, 0, 1, 4]]
    everywhere, _ = read(tmp_path, table, categorical=["b"], split_column="part", missing="median")
    assert [column.impute for column in everywhere.schema.features.columns or []] == [4.0, "x", 2.0]


def test_texts_that_mean_missing_can_be_named(tmp_path: Path) -> None:
    table = "a,rent\n1,1\n-999,2\nNA,3\n"
    made, _ = read(
        tmp_path, table, categorical=None, missing={"a": 0}, missing_values=["-999", "NA"], test=None
    )
    assert made.arrays["train/x"].tolist() == [[1], [0], [0]]
    (problem,) = problems_of(tmp_path, table, categorical=None, missing={"a": 0}, missing_values=["-999"])
    assert (problem.code, problem.line, problem.received) == ("not_a_number", 4, "NA")


@pytest.mark.parametrize("how", ["CSV", "CSV with decimal commas", "Parquet"])
def test_a_number_that_means_missing_is_no_value_in_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_CELLS", 6)
    a = [1.5, -999, 2.5, 3.5, 4.5, 5.5, -999, 6.5]
    content: str | bytes = "a,b,rent\n" + "".join(f"{value}, {value} ,{n}\n" for n, value in enumerate(a))
    if "commas" in how:
        content = str(content).replace(",", ";").replace(".", ",")
    if how == "Parquet":
        content = parquet(a=a, b=pa.array([int(value) for value in a]), rent=list(range(8)))
    made, _ = read(tmp_path, content, categorical=None, missing="median", missing_values=["-999"], test=None)
    columns = made.schema.features.columns or []
    assert [column.impute for column in columns] == [4.0, 3.5 if how == "Parquet" else 4.0]
    assert made.arrays["train/x"][:3, 0].tolist() == [1.5, 4.0, 2.5]
    assert [column.missing for column in made.statistics.columns] == [2, 2]


CLASSES: dict[str, Any] = {"categorical": None, "target": "k", "task": "binary"}
ARRAYS: dict[str, Any] = {"categorical": None, "target": None, "task": "binary"}
BAD_TEXTS: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "a class of a CSV": ("a,k\n" + "1,u\n2,v\n" * 600 + "3,w\0\n", CLASSES),
    "a number of a CSV": ("a,k\n" + "1,u\n2,v\n" * 600 + "\0003,u\n", CLASSES),
    "a column of a CSV": (f"{'a' * 5000}\0,k\n1,u\n2,v\n", CLASSES),
    "a class of a Parquet": (parquet(a=[1, 2, 3], k=["u", "v", "w\0x"]), CLASSES),
    "a column of a Parquet": (parquet(**{"a\0": [1, 2, 3]}, k=["u", "v", "u"]), CLASSES),
    "a class of an NPZ": (packed(x=np.ones((3, 2)), y=np.array(["u", "v\0x", "u"])), ARRAYS),
    "a class with an escape": ("a,k\n1,u\n2,v\x1b[31m\n3,u\n", CLASSES),
    "half a character": (packed(x=np.ones((3, 2)), y=np.array(["u", "v\ud800", "u"])), ARRAYS),
}


@pytest.mark.parametrize("where", BAD_TEXTS)
def test_a_text_that_no_database_takes_is_refused_and_not_repeated(tmp_path: Path, where: str) -> None:
    content, how = BAD_TEXTS[where]
    (problem,) = problems_of(tmp_path, content, **how)
    assert problem.code == "bad_text"
    assert problem.line == (1202 if "number" in where or where == "a class of a CSV" else problem.line)
    assert "\\u0000" not in problem.model_dump_json()


LONG = "x" * 1_000
TOO_LONG: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "a column of a CSV": (f"{LONG},k\n1,u\n2,v\n", CLASSES),
    "a class of a CSV": (f"a,k\n1,u\n2,{LONG}\n", CLASSES),
    "a category of a Parquet": (
        parquet(c=pa.DictionaryArray.from_arrays([0, 1, 0], ["u", LONG]), k=["u", "v", "u"]),
        CLASSES | {"categorical": ["c"]},
    ),
    "a class of an NPZ": (packed(x=np.ones((3, 2)), y=np.array(["u", LONG, "u"])), ARRAYS),
}


@pytest.mark.parametrize("where", TOO_LONG)
def test_a_name_that_would_fill_every_answer_is_refused(tmp_path: Path, where: str) -> None:
    content, how = TOO_LONG[where]
    (problem,) = problems_of(tmp_path, content, **how)
    assert (problem.code, len(str(problem.received)) < 200) == ("name_too_long", True)


def test_a_table_of_which_there_is_too_much_to_say_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upload_child, "LARGEST_DESCRIPTION", 1_000)
    (tmp_path / "file").write_text("a,b,rent\n" + "".join(f"{n},{n},{n}\n" for n in range(9)))
    order = {
        "folder": str(tmp_path),
        "names": {"file": "a.csv"},
        "meta": {"name": "rents", "task": "regression", "target": "rent"},
        "root": str(tmp_path),
    }
    assert upload_child._read(order) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["code"] == "too_large"
    assert not (tmp_path / "datasets").exists()


def _with_flag(content: bytes, signature: bytes, offset: int) -> bytes:
    """The archive with the bit set that says that its first member is encrypted."""
    place = content.index(signature) + offset
    return content[:place] + bytes([content[place] | 1]) + content[place + 1 :]


def _with_header(header: str) -> bytes:
    """An NPZ whose `x` has this header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        text = header.encode() + b"\n"
        archive.writestr("x.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(32))
        archive.writestr("y.npy", zipfile.ZipFile(io.BytesIO(packed(y=np.arange(4)))).read("y.npy"))
    return buffer.getvalue()


DAMAGED: dict[str, bytes] = {
    "encrypted": _with_flag(
        _with_flag(packed(x=np.ones((3, 2)), y=np.arange(3)), b"PK\3\4", 6), b"PK\1\2", 8
    ),
    "a shape that is none": _with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 4)}"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_archive_is_named_at_once(tmp_path: Path, what: str) -> None:
    (problem,) = problems_of(tmp_path, DAMAGED[what], **ARRAYS)
    assert problem.code == "damaged_file"


def test_findings_hold_no_text_that_no_database_takes() -> None:
    findings = Findings()
    findings.warn("odd", "a\0b", column="c\0", received="\ud800", expected="\0")
    (warning,) = findings.warnings
    assert (warning.message, warning.column, warning.received) == ("a\ufffdb", "c\ufffd", "?")
    assert warning.expected == "\ufffd"


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    table = 'city,age,rent\n"Bad\nHonnef",1,2\n\n"Köln",x,3\n"a\n\nb",4,\n'
    found = problems_of(tmp_path, table, categorical=["city"])
    assert [(problem.code, problem.line) for problem in found] == [
        ("not_a_number", 5),
        ("missing_target", 6),
    ]


def test_a_mistake_far_down_is_counted_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_CELLS", 100)
    lines = [f"{n},{n}" for n in range(1000)]
    lines[700:703] = ["x,1", "y,1", "1,"]
    found = problems_of(tmp_path, "a,rent\n" + "\n".join(lines), categorical=None)
    assert [(problem.code, problem.line, problem.count) for problem in found] == [
        ("not_a_number", 702, 2),
        ("missing_target", 704, 1),
    ]


def test_at_most_a_hundred_problems_are_listed(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(150)]
    table = ",".join([*names, "rent"]) + "\n" + ",".join(["x"] * 150 + ["1"])
    assert len(problems_of(tmp_path, table, categorical=None)) == 100


def test_classes_are_those_of_the_file_sorted_or_those_that_are_named(tmp_path: Path) -> None:
    table = "a,k\n" + "".join(f"{n},{['10', '9', 'b'][n % 3]}\n" for n in range(30))
    how: dict[str, Any] = {"categorical": None, "target": "k", "task": "multiclass", "test": None}
    assert read(tmp_path, table, **how)[0].schema.target.class_names == ["10", "9", "b"]
    assert read(tmp_path, table.replace("b", "8"), **how)[0].schema.target.class_names == ["8", "9", "10"]
    named, _ = read(tmp_path, table, **how, class_names=["b", "9", "10"])
    assert named.arrays["train/y"][:3].tolist() == [2, 1, 0]
    assert named.arrays["train/y"].dtype == np.uint8
    ids, _ = read(tmp_path, table.replace("10", "0").replace("9", "1").replace("b", "2"), **how,
                  class_names=["no", "yes", "perhaps"])  # fmt: skip
    assert ids.arrays["train/y"][:3].tolist() == [0, 1, 2]
    assert ids.statistics.class_counts == {"no": 10, "yes": 10, "perhaps": 10}


def test_several_targets_are_amounts_or_labels(tmp_path: Path) -> None:
    table = "a,b,c\n1,0,1\n2,1,0\n3,1,1\n"
    how: dict[str, Any] = {"categorical": None, "target": ["b", "c"], "test": None}
    amounts, _ = read(tmp_path, table, **how)
    assert (amounts.schema.target.shape, amounts.arrays["train/y"].dtype.name) == ((2,), "float32")
    labels, _ = read(tmp_path, table, **how, task="multilabel")
    assert labels.arrays["train/y"].tolist() == [[0, 1], [1, 0], [1, 1]]
    assert (labels.schema.target.names, labels.schema.target.class_names) == (["b", "c"], None)
    assert labels.statistics.class_counts == {"b": 2, "c": 2}


def test_weights_are_stored_for_the_training_rows(tmp_path: Path) -> None:
    table = "a,w,rent\n1,1,1\n2,0.5,2\n3,0,3\n"
    made, _ = read(tmp_path, table, categorical=None, weight="w", test={"last": 1})
    assert made.arrays["train/w"].tolist() == [1, 0.5]
    assert (made.schema.weight, made.schema.features.names) == ("w", ["a"])


def test_the_training_rows_must_weigh_something(tmp_path: Path) -> None:
    table = "a,w,rent\n1,0,1\n2,0,2\n3,5,3\n"
    (problem,) = problems_of(tmp_path, table, categorical=None, weight="w", test={"last": 1})
    assert problem.code == "no_weight"
    x, y = np.ones((4, 2)), np.array([0, 1, 0, 1])
    arrays = packed(x=x, y=y, w=np.zeros(4), x_test=x, y_test=y)
    (problem,) = problems_of(tmp_path, arrays, categorical=None, target=None, task="binary", weight="w")
    assert problem.code == "no_weight"


def test_no_warning_shows_what_a_sealed_row_holds(tmp_path: Path) -> None:
    sealed = PEOPLE.replace("29,Bonn", "29,Aachen")
    _, (warning,) = read(tmp_path, sealed, test={"last": 1})
    assert (warning.code, warning.line, warning.received) == ("category_not_in_training", 7, None)
    table = "part,b,rent\ntrain,x,1\ntrain,y,2\ntest,secret,3\nvalidation,open,4\n"
    _, (warning,) = read(tmp_path, table, categorical=["b"], split_column="part")
    assert (warning.line, warning.received, warning.count) == (5, "open", 2)


def test_what_is_odd_is_told_and_does_not_stop(tmp_path: Path) -> None:
    ids = [f"n{n}" for n in range(40)]
    lines = [f"{name},5,x,{n % 7},{'rare' if n < 3 else 'often'}" for n, name in enumerate(ids)]
    table = "id,same,one,a,k\n" + "\n".join([*lines, lines[-1]])
    made, warnings = read(
        tmp_path, table, categorical=["id", "one"], target="k", task="binary", test={"last": 1}
    )
    assert [(one.code, one.column) for one in warnings] == [
        ("few_rows_of_class", "k"),
        ("nearly_unique", "id"),
        ("constant_column", "same"),
        ("constant_column", "one"),
        ("repeated_rows", None),
    ]
    assert warnings[-1].line == 42
    assert "42 and 41" in warnings[-1].message
    assert made.schema.rows.test == 1


def test_repeated_rows_are_found_among_many_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_ROWS_AT_ONCE", 7)
    random = np.random.default_rng(1)
    train = random.integers(0, 4, (60, 3, 2)).astype(np.uint8)
    test = random.integers(0, 4, (50, 3, 2)).astype(np.uint8)
    test[[3, 20, 49]] = train[[50, 2, 2]]
    targets = [np.arange(60) % 2, np.zeros(50, int)]
    found = repeats.repeats([train, targets[0]], [test, targets[1]])
    assert found == [(3, 50), (20, 2), (49, 2)]
    assert repeats.repeats([np.zeros((0, 2))], [np.zeros((3, 2))]) == []
    assert repeats.repeats([np.array([[0.0]])], [np.array([[-0.0]])]) == [(0, 0)]


def test_statistics_are_of_the_unsealed_rows(tmp_path: Path) -> None:
    table = PEOPLE.replace("41,Köln", ",Köln").replace("29,Bonn", "1000,Aachen")
    made, _ = read(tmp_path, table, test={"last": 1}, missing="mean")
    age, city, _ = made.statistics.columns
    assert (age.missing, age.minimum, age.maximum, age.mean) == (1, 25, 52, 36.25)
    assert age.std == pytest.approx(np.std([30, 25, 38, 52]))
    assert city.counts == {"Bad Honnef, Rhein": 1, "Bonn": 2, "Köln": 2}
    (rent,) = made.statistics.targets
    assert (rent.minimum, rent.maximum) == (650, 1100)
    second = made.statistics.samples[1]
    assert second.features == {"age": None, "city": "Köln", "income": 3.5}
    assert second.target == {"rent": 900}


def test_parquet_knows_missing_values_and_classes_of_any_type(tmp_path: Path) -> None:
    content = parquet(
        a=pa.array([1.5, None, float("nan"), 2.5]),
        b=pa.array([True, False, None, True]),
        c=pa.array([1, 2, None, 1], "int64"),
        k=pa.array([0.0, 1.0, 1.0, 0.0]),
    )
    made, _ = read(
        tmp_path, content, categorical=["c"], target="k", task="binary", missing="most_frequent", test=None
    )
    assert made.schema.target.class_names == ["0", "1"]
    assert made.arrays["train/x"].tolist() == [[1.5, 1, 1, 0], [1.5, 0, 0, 1], [1.5, 1, 1, 0], [2.5, 1, 1, 0]]


def test_all_columns_of_a_wrong_type_are_named_at_once_in_plain_words(tmp_path: Path) -> None:
    day = datetime(2026, 1, 2, tzinfo=UTC)
    content = parquet(
        day=[day.date()] * 3,
        at=[day] * 3,
        took=[timedelta(1)] * 3,
        marks=[[1, 2]] * 3,
        place=[{"lat": 1}] * 3,
        raw=[b"a"] * 3,
        empty=pa.nulls(3),
        city=pa.array(["Bonn"] * 3).dictionary_encode(),
        rent=[1, 2, 3],
    )
    found = problems_of(tmp_path, content, categorical=["raw"])
    assert [(one.code, one.column, one.received) for one in found] == [
        ("wrong_type", "day", "dates"),
        ("wrong_type", "at", "points in time"),
        ("wrong_type", "took", "durations"),
        ("wrong_type", "marks", "lists"),
        ("wrong_type", "place", "records"),
        ("wrong_type", "raw", "bytes"),
        ("wrong_type", "empty", "no value at all"),
        ("wrong_type", "city", "texts"),
    ]
    assert found[0].message == "`day` holds dates where numbers are needed."
    assert found[0].expected == "numbers, such as days since a first day, or year, month and weekday"
    assert found[5].message == "`raw` holds bytes where names are needed."
    assert found[7].expected == "numbers; names belong into `categorical`"


@pytest.mark.parametrize(
    ("names", "first"),
    [(pa.array(["u", "v", "u"], pa.string_view()), "u"), (pa.array([1.0, 2.0, 1.0], "float16"), "1")],
    ids=["views of texts", "half floats"],
)
def test_names_of_rare_types_are_read(tmp_path: Path, names: Any, first: str) -> None:
    made, _ = read(tmp_path, parquet(city=names, rent=[1, 2, 3]), test=None)
    assert (made.schema.features.names or [])[0] == f"city={first}"


def test_a_parquet_file_that_would_fill_the_memory_is_refused_by_its_footer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tables.parquet_file.MOST_VALUES", 5)
    (tmp_path / "f").write_bytes(parquet(a=[1, 2, 3], b=[1, 2, 3]))
    findings = Findings()
    with pytest.raises(FileRefused):
        read_parquet(tmp_path / "f", lambda names: dict.fromkeys(names, "numbers"), (), findings)
    assert [problem.code for problem in findings.problems] == ["too_large"]


def test_arrays_keep_their_shape_and_their_type(tmp_path: Path) -> None:
    x, y = np.arange(80, dtype=">i8").reshape(20, 2, 2), np.array(["b", "a"] * 10)
    how: dict[str, Any] = {"categorical": None, "target": None, "task": "binary"}
    made, _ = read(tmp_path, packed(x=x, y=y), **how, test={"last": 4})
    assert (made.schema.features.shape, made.schema.features.dtype) == ((2, 2), "float32")
    assert made.schema.target.class_names == ["a", "b"]
    assert made.schema.target.names == ["label"]
    assert made.arrays["test/x"].tolist() == x[16:].tolist()
    bytes_, _ = read(tmp_path, packed(x=x.astype("uint8"), y=y), **how)
    assert bytes_.schema.features.dtype == "uint8"
    assert bytes_.statistics.columns[0].maximum is not None
    split, _ = read(
        tmp_path, packed(x_train=x, y_train=y, x_val=x[:3], y_val=y[:3], x_test=x[:5], y_test=y[:5]), **how
    )
    assert split.schema.rows.model_dump() == {"train": 23, "test": 5, "validation": 3}
    weighed, _ = read(tmp_path, packed(x=x, y=y, w=np.arange(20)), **how, weight="w", test={"last": 1})
    assert weighed.arrays["train/w"].tolist() == list(range(19))
    named, _ = read(tmp_path, packed(x=x.reshape(20, 4), y=y), **how, features=list("abcd"))
    assert named.schema.features.names == list("abcd")


def test_arrays_of_amounts_and_labels(tmp_path: Path) -> None:
    x, y = np.ones((6, 2)) * np.arange(6)[:, None], np.array([[0, 1], [1, 1], [1, 0]] * 2)
    how: dict[str, Any] = {"categorical": None, "target": None}
    labels, _ = read(tmp_path, packed(x=x, y=y), **how, task="multilabel")
    assert labels.schema.target.names == ["label_0", "label_1"]
    amounts, _ = read(tmp_path, packed(x=x, y=y[:, :1]), **how, test=None)
    assert amounts.schema.target.shape == ()
    wrong = problems_of(tmp_path, packed(x=x, y=y), categorical=None, target=["a"])
    assert [problem.code for problem in wrong] == ["wrong_target"]


# Rows for predictions


@pytest.fixture
def people(tmp_path: Path) -> DatasetSchema:
    """The schema of PEOPLE, incomes filled in."""
    return read(tmp_path, test=None, missing={"income": "median"})[0].schema


@pytest.mark.parametrize("how", SAME)
def test_a_file_of_rows_gives_the_inputs_of_training(tmp_path: Path, people: DatasetSchema, how: str) -> None:
    """Its target is left aside."""
    expected = read(tmp_path, test=None)[0].arrays["train/x"]
    content = SAME[how][0]
    file = tmp_path / "rows"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    inputs = read_rows(people, SentFile(file, "rows"), 10, Findings())
    assert inputs.tolist() == expected.tolist()
    assert inputs.dtype == np.float32
    columns = in_columns()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert encode_rows(people, rows).tolist() == expected.tolist()


@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_file_of_rows_says_that_a_value_is_missing_as_the_training_file_did(
    tmp_path: Path, is_parquet: bool
) -> None:
    table = "age,city,rent\n30,Bonn,1\n-999,unknown,2\n50,Ulm,3\n"
    how: dict[str, Any] = {"missing": {"age": 40, "city": "Bonn"}, "missing_values": ["-999", "unknown"]}
    made, _ = read(tmp_path, table, test=None, **how)
    file = tmp_path / "rows"
    columns = parquet(age=[30, -999, 50], city=["Bonn", "unknown", "Ulm"])
    file.write_bytes(columns if is_parquet else table.encode())
    inputs = read_rows(made.schema, SentFile(file, "rows"), 10, Findings())
    assert inputs.tolist() == made.arrays["train/x"].tolist() == [[30, 1, 0], [40, 1, 0], [50, 0, 1]]
    # Words of one's own stand in the place of the usual ones.
    file.write_text("age,city\nNA,Bonn\n")
    with pytest.raises(FileRefused):
        read_rows(made.schema, SentFile(file, "rows"), 10, Findings())
    plain, _ = read(tmp_path, test=None)
    assert plain.schema.features.missing_values is None


def test_rows_are_read_in_a_child(tmp_path: Path, people: DatasetSchema) -> None:
    file, target = tmp_path / "rows.csv", tmp_path / "inputs.npy"
    file.write_text("income,age,city,what\n,30,Ulm,x\n")
    assert prepare_rows(file, "rows.csv", people, target) == []
    assert np.load(target).tolist() == [[30, 0, 0, 0, 2.75]]
    file.write_text("income,age\n1,x\n")
    (problem,) = prepare_rows(file, "rows.csv", people, target)
    assert (problem.code, problem.column) == ("missing_column", "city")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "rows.csv", "inputs.npy"}


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ("age,city,income\n,Bonn,1\n", "missing_value", 2),
        ("age,city,income\n1,Bonn,1\nx,Bonn,1\n", "not_a_number", 3),
        ("age,city,income\n1e39,Bonn,1\n", "out_of_range", 2),
        ("age,city,income\n", "no_rows", None),
        ("age,city,income\n" + "1,Bonn,1\n" * 11, "too_many_rows", None),
        (packed(x=np.zeros((2, 3))), "wrong_shape", None),
        (packed(x=np.array(["a"])), "wrong_type", None),
        (packed(y=np.zeros(3)), "missing_array", None),
        (packed(x=np.full((2, 5), np.inf)), "out_of_range", 1),
        ("", "empty_file", None),
    ],
)
def test_rows_that_cannot_be_predicted_are_named(
    tmp_path: Path, people: DatasetSchema, content: str | bytes, code: str, line: int | None
) -> None:
    file, findings = tmp_path / "rows", Findings()
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(FileRefused):
        read_rows(people, SentFile(file, "rows"), 10, findings)
    assert [(problem.code, problem.line) for problem in findings.problems] == [(code, line)]


def test_an_empty_line_of_one_column_is_a_row(tmp_path: Path) -> None:
    table = "a,rent\n1,1\n,2\n3,3\n"
    schema = read(tmp_path, table, categorical=None, test=None, missing="mean")[0].schema
    file = tmp_path / "rows"
    for content in ("a\n5\n\n7\n", "a\r\n5\r\n\r\n7"):
        file.write_bytes(content.encode())
        assert read_rows(schema, SentFile(file, "rows"), 10, Findings()).tolist() == [[5], [2], [7]]


def test_inputs_may_come_as_an_array(tmp_path: Path, people: DatasetSchema) -> None:
    (tmp_path / "rows").write_bytes(packed(x=np.arange(10).reshape(2, 5)))
    inputs = read_rows(people, SentFile(tmp_path / "rows", "rows.npz"), 10, Findings())
    assert inputs.tolist() == np.arange(10).reshape(2, 5).tolist()

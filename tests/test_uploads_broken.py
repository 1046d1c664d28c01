"""Files that cannot become datasets, through HTTP and the child: each gets a clear problem, none a crash."""

import gzip
import io
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.settings import Settings
from services.store import Store
from tests.uploading import PEOPLE, problems_of, send
from worker import limited
from worker.reading import read_next_upload

CHECKOUT = Path(__file__).parents[1]
# NumPy, pydantic and a small file; a child that reads more of it than it should needs more.
MOST_MB = 400

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def packed(**arrays: Any) -> bytes:
    """An NPZ file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(**files: bytes) -> bytes:
    """A zip file; a double underscore in a name stands for a slash, a single one for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def parquet(**columns: Any) -> bytes:
    """A Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    """The beginning of an npy file that announces an array and does not hold it."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def rows(target: str, lines: Sequence[str]) -> str:
    """A CSV with a number, and a target."""
    return f"a,{target}\n" + "".join(f"{number},{line}\n" for number, line in enumerate(lines))


X, Y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
OBJECTS = np.array([[1, "a"], [None, 2]], object)
PLAIN = {"categorical": None}
CLASSES = {"categorical": None, "target": "k", "task": "multiclass"}
ARRAYS = {"categorical": None, "target": None, "task": "binary"}
TEN = ["u", "v"] * 5
NOTHING = pa.array([], "int8")

# What is sent, what is said of it, the problem that is expected, and in which line.
BROKEN: dict[str, tuple[str | bytes, dict[str, Any], str, int | None]] = {
    "no bytes": (b"", {}, "empty_file", None),
    "header only": ("age,city,income,rent\n", {}, "no_rows", None),
    "no header": ("1,2,3\n4,5,6\n", PLAIN, "no_header", 1),
    "a row that is too short": (PEOPLE.replace("25,Bonn,2.0,650", "25,Bonn,650"), {}, "ragged_row", 4),
    "Latin-1": (PEOPLE.encode("latin-1"), {}, "not_utf8", 3),
    "UTF-16": (PEOPLE.encode("utf-16"), {}, "not_utf8", 1),
    "gzip": (gzip.compress(PEOPLE.encode()), {}, "unsupported_format", None),
    "zip": (zipped(people_csv=PEOPLE.encode()), {}, "unsupported_format", None),
    "Excel": (zipped(xl__workbook_xml=b"<workbook/>"), {}, "unsupported_format", None),
    "pickle": (pickle.dumps({"a": 1}), {}, "unsupported_format", None),
    "HTML": ("<!DOCTYPE html><html>Not found</html>", {}, "unsupported_format", None),
    "JSON": ('[{"age": 3}]', {}, "unsupported_format", None),
    "noise": (bytes(range(256)) * 8, {}, "unsupported_format", None),
    "an open quote": (PEOPLE.replace("41,Köln", '41,"Köln'), {}, "bad_quotes", None),
    "an open quote to the end": ('a,rent\n1,"2\n3,4\n', PLAIN, "unclosed_quote", None),
    "two columns of one name": (PEOPLE.replace("income", "age"), {}, "duplicate_column", 1),
    "a column without name": (",age,rent\n0,1,2\n1,2,3\n", PLAIN, "unnamed_column", 1),
    "no such target": (PEOPLE, {"target": "Rent"}, "unknown_column", None),
    "text for a number": (PEOPLE.replace("38", "thirty-eight"), {}, "not_a_number", 5),
    "a decimal comma": (PEOPLE.replace("3.5", '"3,5"'), {}, "not_a_number", 3),
    "infinity": (PEOPLE.replace("3.5", "inf"), {}, "not_finite", 3),
    "too large for a float": (PEOPLE.replace("3.5", "1e39"), {}, "out_of_range", 3),
    "a missing value": (PEOPLE.replace("3.5", ""), {}, "missing_value", 3),
    "a missing target": (PEOPLE.replace("1100", ""), {}, "missing_target", 6),
    "a constant target": (rows("rent", ["5"] * 10), PLAIN, "constant_target", None),
    "one row": (rows("rent", ["5"]), PLAIN, "too_few_rows", None),
    "one class": (rows("k", ["u"] * 10), CLASSES, "one_class", None),
    "a class in the test alone": (
        rows("k", [*TEN, "w"]), CLASSES | {"test": {"last": 1}}, "class_not_in_training", None
    ),
    "amounts as classes": (
        rows("k", [f"{n}.5" for n in range(1500)]), CLASSES, "too_many_classes", None
    ),
    "an empty split": (
        "a,part,rent\n1,test,1\n2,test,2\n3,train,3\n", PLAIN | {"split_column": "part"}, "empty_split", None
    ),
    "an identifier as a category": (
        "id,rent\n" + "".join(f"n{n},{n}\n" for n in range(1300)), {"categorical": ["id"]},
        "too_many_categories", None,
    ),
    "half a Parquet": (parquet(a=[1, 2], rent=[3, 4])[:-20], PLAIN, "damaged_file", None),
    "texts in Parquet": (parquet(a=["x", "y", "z"], rent=[1, 2, 3]), PLAIN, "wrong_type", None),
    "lists in Parquet": (parquet(a=[[1], [2], [3]], rent=[1, 2, 3]), PLAIN, "wrong_type", None),
    "no rows in Parquet": (parquet(a=NOTHING, rent=NOTHING), PLAIN, "no_rows", None),
    "objects in NPZ": (packed(x=OBJECTS, y=Y[:2]), ARRAYS, "unsafe_array", None),
    "NPZ without targets": (packed(x=X), ARRAYS, "missing_array", None),
    "NPZ of unequal length": (packed(x=X, y=Y[:5]), ARRAYS, "wrong_shape", None),
    "NPZ with NaN": (packed(x=np.where(X == 4, np.nan, X), y=Y), ARRAYS, "not_finite", 3),
    "NPZ that announces a terabyte": (
        zipped(x_npy=header("(1000000, 125000)"), y_npy=header("(1000000,)")), ARRAYS, "too_large", None
    ),
    "NPZ that announces more than it holds": (
        zipped(x_npy=header("(1000, 1000)"), y_npy=header("(1000,)")), ARRAYS, "damaged_file", None
    ),
    "idx without targets": (b"\0\0\x08\x01\0\0\0\x02ab", ARRAYS, "missing_file", None),
    "idx with half of it": (
        b"\0\0\x08\x02\0\0\0\x09\0\0\0\x02ab", ARRAYS | {"targets": b"\0\0\x08\x01\0\0\0\x02ab"},
        "damaged_file", None,
    ),
    "idx with targets as text": (
        b"\0\0\x08\x02\0\0\0\x02\0\0\0\x01ab", ARRAYS | {"targets": b"0,1"}, "unsupported_format", None
    ),
    "a second file for a table": (PEOPLE, {"targets": b"1,2"}, "unused_file", None),
}  # fmt: skip

# More of the kind, read without a child.
MISTAKEN: dict[str, tuple[str | bytes, dict[str, Any], str, int | None]] = {
    "blank lines only": ("\n\n \n", {}, "empty_file", None),
    "a row that is too long": (PEOPLE + "1,2,3,4,5\n", {}, "ragged_row", 8),
    "half a zip": (zipped(people_csv=PEOPLE.encode())[:60], {}, "damaged_file", None),
    "npy": (header("(2,)") + bytes(16), {}, "unsupported_format", None),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(40), {}, "unsupported_format", None),
    "no such feature": (PEOPLE, {"features": ["age", "height"], **PLAIN}, "unknown_column", None),
    "no such category": (PEOPLE, {"categorical": ["town"]}, "unknown_column", None),
    "only a target": ("rent\n1\n2\n", PLAIN, "no_features", None),
    "thousands marks": (PEOPLE.replace("1100", "1'100"), {}, "not_a_number", 6),
    "a unit": (PEOPLE.replace("1100", "1100 EUR"), {}, "not_a_number", 6),
    "too large for a double": (PEOPLE.replace("3.5", "1e400"), {}, "not_finite", 3),
    "a missing category": (PEOPLE.replace("41,Köln", "41,NA"), {}, "missing_value", 3),
    "nothing to put in": ("a,b,rent\n1,,1\n2,,2\n3,,3\n", {"missing": "mean", **PLAIN}, "only_missing", None),
    "more test rows than rows": (PEOPLE, {"test": {"count": 100}}, "too_few_rows", None),
    "a class that is not named": (
        rows("k", [*TEN, "w"]), CLASSES | {"class_names": ["u", "v"]}, "unknown_class", 12
    ),
    "three classes of two": (rows("k", [*TEN, "w"]), CLASSES | {"task": "binary"}, "wrong_classes", None),
    "no label": (
        "a,b,c\n1,0,1\n2,2,0\n3,1,1\n", PLAIN | {"task": "multilabel", "target": ["b", "c"]}, "not_a_label", 3
    ),
    "negative weights": (
        "a,w,rent\n1,1,1\n2,-1,2\n3,1,3\n", PLAIN | {"weight": "w"}, "negative_weight", 3
    ),
    "no weight at all": ("a,w,rent\n1,0,1\n2,0,2\n3,0,3\n", PLAIN | {"weight": "w"}, "no_weight", None),
    "an unknown split": (
        "a,part,rent\n1,train,1\n2,train,2\n3,tests,3\n", PLAIN | {"split_column": "part"},
        "bad_split_value", 4,
    ),
    "a test column without test": (
        "a,part,rent\n1,no,1\n2,no,2\n3,no,3\n", PLAIN | {"test": "part"}, "empty_split", None
    ),
    "CSV named Parquet": (PEOPLE, {"filename": "people.parquet"}, "damaged_file", None),
    "NPZ with half a test": (packed(x=X, y=Y, x_test=X), ARRAYS, "missing_array", None),
    "NPZ with numbers alone": (packed(x=Y, y=Y), ARRAYS, "wrong_shape", None),
    "NPZ with columns": (packed(x=X, y=Y), ARRAYS | {"categorical": ["a"]}, "no_columns", None),
    "NPZ that is tested twice": (
        packed(x=X, y=Y, x_test=X, y_test=Y), ARRAYS | {"test": {"last": 2}}, "two_splits", None
    ),
}  # fmt: skip


def test_each_broken_file_gets_a_clear_problem_and_no_child_takes_much_memory(
    http: httpx.Client, store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = tmp_path / "peaks"

    def measured(module: str, arguments: Sequence[str], **how: Any) -> limited.Ended:
        return run_limited("tests.measured", [str(peaks), module, *arguments], **how)

    run_limited = limited.run_limited
    monkeypatch.setattr(limited, "run_limited", measured)
    sent = {}
    for number, (name, (content, how, _, _)) in enumerate(BROKEN.items()):
        answer = send(http, content, **{"name": f"broken-{number}", **how})
        assert answer.status_code == 202, (name, answer.text)
        sent[name] = answer.headers["Location"]
    with ThreadPoolExecutor(2) as readers:
        list(readers.map(lambda _: read_next_upload(store, settings.artifact_root), sent))
    for name, (_, _, code, line) in BROKEN.items():
        ended = http.get(sent[name]).json()
        assert ended["state"] == "rejected", (name, ended)
        found = {problem["code"]: problem for problem in ended["problems"]}
        assert code in found, (name, ended["problems"])
        assert line is None or found[code]["line"] == line, (name, found[code])
        assert all(problem["message"].endswith((".", "?")) for problem in found.values()), (name, found)
        assert found[code]["expected"], (name, found[code])
        assert http.get(ended["links"]["dataset"]).json()["state"] == "rejected"
    taken = [int(peak) / 1024 for peak in peaks.read_text().split()]
    assert len(taken) == len(BROKEN) >= 40
    assert max(taken) < MOST_MB
    assert list((settings.artifact_root / "uploads").iterdir()) == []


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_mistake_in_a_file_is_found(store: Store, tmp_path: Path, name: str) -> None:
    content, how, code, line = MISTAKEN[name]
    found = {problem.code: problem for problem in problems_of(tmp_path, content, **how)}
    assert code in found, found
    assert line is None or found[code].line == line
    assert found[code].message.endswith((".", "?"))
    assert found[code].expected


def test_a_child_has_limits(store: Store) -> None:
    code = (
        "import resource as r; from worker.limited import enter; enter(with_parent=False);"
        "print(r.getrlimit(r.RLIMIT_AS)[0], r.getrlimit(r.RLIMIT_CPU)[0])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, check=True)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = limited.MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, limited.MEMORY_BYTES)
    assert said.stdout.split()[0] == str(most).encode()


def test_a_file_that_fills_the_memory_is_too_large_and_not_tried_again(
    http: httpx.Client, store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tightly(module: str, arguments: Sequence[str], **how: Any) -> limited.Ended:
        code = (
            "import sys, worker.limited as l; l.MEMORY_BYTES = 400 * 2**20;"
            f"from {module} import main; sys.exit(main(sys.argv[1:]))"
        )
        (order, *_) = arguments
        ended = subprocess.run(
            [sys.executable, "-c", code, order], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        return limited.told_by(ended.stdout, ended.stderr, ended.returncode)

    monkeypatch.setattr(limited, "run_limited", tightly)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((8_000, 4_000)), y=np.arange(8_000) % 2)
    answer = send(http, buffer.getvalue(), **ARRAYS)
    assert read_next_upload(store, settings.artifact_root)
    ended = http.get(answer.headers["Location"]).json()
    assert [problem["code"] for problem in ended["problems"]] == ["too_large"]

"""Names in Unicode's decomposed form, as some systems write them, are those in the composed form."""

import json
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

from services.predictions import PredictionOptions
from services.spec import class_id
from tests.test_upload_tables import packed, parquet
from tests.uploading import make_meta, read
from worker.encoding import encode_rows
from worker.tables.findings import Findings
from worker.tables.reading import SentFile
from worker.tables.rows import read_rows

COLUMNS: dict[str, list[Any]] = {
    "größe": [1, 2, 3, None, 5, 6],
    "ort": ["Köln", "Bonn", "Köln", "Köln", "fällt aus", "Köln"],
    "art": ["grün", "rot", "grün", "rot", "grün", "rot"],
}
CSV = (
    "größe,ort,art\n1,Köln,grün\n2,Bonn,rot\n3,Köln,grün\nfällt aus,Köln,rot\n5,fällt aus,grün\n6,Köln,rot\n"
)
META = make_meta(
    task="binary",
    target="art",
    features=["größe", "ort"],
    categorical=["ort"],
    class_names=["rot", "grün"],
    missing={"größe": 4, "ort": "Köln"},
    missing_values=["fällt aus"],
    test=None,
)
NFD, NFC = "NFD", "NFC"


def written(form: str, document: Any) -> Any:
    return json.loads(normalize(form, json.dumps(document, ensure_ascii=False)))


def as_file(form: str, *, is_parquet: bool) -> bytes:
    return parquet(**written(form, COLUMNS)) if is_parquet else normalize(form, CSV).encode()


@pytest.mark.parametrize(("of_file", "of_meta"), [(NFD, NFC), (NFC, NFD), (NFD, NFD)])
@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_table_and_its_meta_are_matched(
    tmp_path: Path, of_file: str, of_meta: str, is_parquet: bool
) -> None:
    made, _ = read(tmp_path, as_file(of_file, is_parquet=is_parquet), **written(of_meta, META))
    assert made.schema.target.class_names == ["rot", "grün"]
    assert made.schema.features.names == ["größe", "ort=Bonn", "ort=Köln"]
    assert made.arrays["train/x"].tolist()[3:] == [[4, 0, 1], [5, 0, 1], [6, 0, 1]]
    assert made.arrays["train/y"].tolist() == [1, 0, 1, 0, 1, 0]


def test_arrays_and_their_meta_are_matched(tmp_path: Path) -> None:
    arrays = {
        "x": [[1.0], [2.0], [3.0]],
        "y": written(NFD, ["rot", "grün", "rot"]),
        normalize(NFD, "maß"): [1, 2, 3],
    }
    meta = {"task": "binary", "target": None, "categorical": None, "weight": "maß", "test": None}
    made, _ = read(tmp_path, packed(**arrays), class_names=["rot", "grün"], **meta)
    assert made.arrays["train/y"].tolist() == [0, 1, 0]
    assert made.arrays["train/w"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("is_parquet", [False, True])
def test_rows_for_predictions_are_matched(tmp_path: Path, is_parquet: bool) -> None:
    made, _ = read(tmp_path, CSV, **META)
    file = tmp_path / "rows"
    file.write_bytes(as_file(NFD, is_parquet=is_parquet))
    read_anew = read_rows(made.schema, SentFile(file, "rows"), 10, Findings())
    assert read_anew.tolist() == made.arrays["train/x"].tolist()
    row = written(NFD, {"größe": 1, "ort": "Köln"})
    assert encode_rows(made.schema, [row]).tolist() == [[1, 0, 1]]


def test_classes_and_labels_of_requests_are_matched() -> None:
    decomposed = normalize(NFD, "grün")
    assert class_id(decomposed, ["rot", "grün"]) == 1
    options = PredictionOptions.model_validate({"thresholds": {decomposed: 0.5}})
    assert options.thresholds == {"grün": 0.5}

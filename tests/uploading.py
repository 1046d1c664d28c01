"""Sending a file as a dataset and reading it, as the API and the housekeeping worker do."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from services import answers
from services.artifacts import dataset_folder
from services.meta import read_meta
from services.store import Store
from worker.reading import read_next_upload
from worker.tables.findings import FileRefused, Findings
from worker.tables.making import Made
from worker.tables.reading import SentFile, read_upload

PEOPLE = """age,city,income,rent
30,Bonn,2.5,700
41,Köln,3.5,900
25,Bonn,2.0,650
38,"Bad Honnef, Rhein",3.0,800
52,Köln,4.5,1100
29,Bonn,2.25,690
"""


def make_meta(**changes: Any) -> dict[str, Any]:
    """Says that the rent of PEOPLE is predicted from the rest; None takes a key away."""
    document = {"name": "people", "task": "regression", "target": "rent", "categorical": ["city"]}
    return {key: value for key, value in (document | changes).items() if value is not None or key == "test"}


def send(
    http: httpx.Client,
    content: str | bytes = PEOPLE,
    *,
    filename: str = "people.csv",
    targets: bytes | None = None,
    headers: dict[str, str] | None = None,
    **meta: Any,
) -> httpx.Response:
    """POST a file and its meta."""
    files: dict[str, Any] = {"file": (filename, _bytes(content))}
    if targets is not None:
        files["targets"] = ("targets", targets)
    data = {"meta": json.dumps(make_meta(**meta))}
    return httpx.Client.post(http, "/v1/datasets", files=files, data=data, headers=headers)


def upload(http: httpx.Client, store: Store, root: Path, content: str | bytes = PEOPLE, **how: Any) -> Any:
    """Send a file, let it be read, and fetch the upload."""
    sent = send(http, content, **how)
    assert sent.status_code == 202, sent.text
    while read_next_upload(store, root):
        pass
    return http.get(sent.headers["Location"]).json()


def read(
    path: Path, content: str | bytes = PEOPLE, *, filename: str = "people.csv", **meta: Any
) -> tuple[Made, list[answers.DataProblem]]:
    """Read a file in this process: what was made of it, and the warnings. It fails if the file is refused."""
    findings = Findings()
    try:
        return _read(path, content, filename, findings, meta), findings.warnings
    except FileRefused:
        raise AssertionError([problem.model_dump() for problem in findings.problems]) from None


def problems_of(
    path: Path, content: str | bytes, *, filename: str = "people.csv", **meta: Any
) -> list[answers.DataProblem]:
    """Why a file is refused."""
    findings = Findings()
    try:
        _read(path, content, filename, findings, meta)
    except FileRefused:
        return findings.problems
    raise AssertionError("the file was taken")


def _read(path: Path, content: str | bytes, filename: str, findings: Findings, meta: dict[str, Any]) -> Made:
    file = path / "file"
    file.write_bytes(_bytes(content))
    return read_upload(read_meta(make_meta(**meta)), {"file": SentFile(file, filename)}, findings)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def stored(root: Path, version: str, part: str) -> NDArray[Any]:
    """One array of a stored version."""
    array: NDArray[Any] = np.load(dataset_folder(root, version) / f"{part}.npy")
    return array

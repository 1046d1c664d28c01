"""Predictions of a finished job's model."""

import hashlib
import time
from pathlib import Path
from typing import IO

from flask import Blueprint, request
from pydantic import Field

from api.contract import LARGEST_BODY, Part, Query, contract, validated
from api.multipart import read_form
from api.pages import PageCursor
from api.parts import caller, parts
from api.repeats import KEY_HEADER, request_key
from services import answers, artifacts, predictions
from services.broker import PREDICTION_QUEUE
from services.documents import read_document
from services.errands import Asked
from services.ids import new_id
from services.predictions import PredictionOptions, PredictionRequest, RowsFile
from services.problems import DocumentUnreadable, Problem, SpecInvalid, pointer_to

blueprint = Blueprint("predictions", __name__, url_prefix="/v1/jobs/<job_id>/predictions")

LARGEST_JSON = 16_000_000
LARGEST_FILE = 100 * 2**20
MOST_VALUES = 10_000_000
LONGEST_WAIT_SECONDS = 10.0
# A warm model answers within some 20 ms: the first looks follow closely, later ones less so.
LOOK_EVERY_SECONDS = 0.004
LOOK_SELDOM_SECONDS = 0.05
PATIENCE_GROWS = 1.05


class PageQuery(Query):
    """Which page of the list."""

    limit: int = Field(default=100, ge=1, le=200)
    after: PageCursor | None = Field(default=None, description="`next_after` of the page before.")


@blueprint.post("")
@contract(
    "Predict with a finished job's model",
    {200: answers.Prediction, 202: answers.Prediction},
    body=PredictionRequest,
    multipart={
        "file": Part("Rows: CSV, Parquet, NPZ or idx, at most 100 MB and 50,000 rows."),
        "options": Part("How the outputs are read.", PredictionOptions, is_required=False),
    },
    reads_body=False,
    headers=KEY_HEADER,
)
def ask(job_id: str) -> tuple[answers.Prediction, int, dict[str, str]]:
    """200 with the answer, or 202 and a Location to look at if it takes longer than ten seconds.

    Rows come as JSON `instances`, as a `split` of the job's dataset, or as multipart/form-data. A look at the
    test split is in the ledger from now on.
    """
    has_file = request.mimetype == "multipart/form-data"
    asked = _ask_with_file(job_id) if has_file else _ask_with_json(job_id)
    if asked.is_new:
        parts().doorbell.ring(PREDICTION_QUEUE)
    _wait(asked.id)
    with parts().store.reads.begin() as session:
        answer = predictions.read(session, job_id, asked.id)
    if answer.problems:
        raise SpecInvalid([_problem(item, has_file=has_file) for item in answer.problems])
    location = {"Location": f"/v1/jobs/{job_id}/predictions/{answer.id}"}
    return answer, 200 if answer.state.is_terminal else 202, location


def _ask_with_json(job_id: str) -> Asked:
    request.max_content_length = LARGEST_JSON
    body = request.get_data()
    # YAML of this size would take minutes.
    if request.mimetype not in {"", "application/json"}:
        raise DocumentUnreadable(
            "unsupported_media_type",
            f"{request.mimetype} is not read; send application/json, or a file as multipart/form-data.",
        )
    document = read_document(body, "application/json", limit=LARGEST_JSON, most_values=MOST_VALUES)
    return _store(job_id, validated(PredictionRequest, document), body)


def _ask_with_file(job_id: str) -> Asked:
    with parts().store.reads.begin() as session:
        predictions.require_model(session, job_id)
    id_ = new_id()
    path = artifacts.prediction_file(parts().settings.artifact_root, id_)
    is_asked = False
    try:
        given, name = _receive(path)
        options = validated(PredictionOptions, read_document(given, "application/json", limit=LARGEST_BODY))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        asked = _store(job_id, options, given + digest, RowsFile(id_, name))
        is_asked = asked.is_new
    finally:
        if not is_asked:
            path.unlink(missing_ok=True)
    return asked


def _receive(path: Path) -> tuple[bytes, str]:
    """Let the body's one file go to disk as it comes; returns the options as JSON and the file's own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opened: list[IO[bytes]] = []

    def open_part(*_: object, **__: object) -> IO[bytes]:
        if opened:
            raise _wrong_parts(["file", "another file"])
        opened.append(path.open("w+b"))
        return opened[-1]

    try:
        fields, files = read_form(open_part, LARGEST_FILE, "options")
    finally:
        for file in opened:
            file.close()
    names = [*fields.keys(), *files.keys()]
    if "file" not in files or not {*names} <= {"file", "options"} or "file" in fields:
        raise _wrong_parts(names)
    return fields.get("options", "{}").encode(), (files["file"].filename or "").replace("\0", "")[:255]


def _wrong_parts(names: list[str]) -> SpecInvalid:
    message = f"A form with rows has one `file` and perhaps `options`; this one has {names or 'nothing'}."
    expected = "file: CSV, Parquet, NPZ or idx; options: JSON with top_k and thresholds"
    return SpecInvalid([Problem("wrong_parts", "", message, names, expected)])


def _store(job_id: str, wanted: PredictionOptions, content: bytes, file: RowsFile | None = None) -> Asked:
    key = request_key(request.path.encode(), content)
    digest = hashlib.sha256(content).hexdigest()
    with parts().store.reads.begin() as session:
        wish = predictions.check(session, job_id, wanted, file)
    with parts().store.writes.begin() as session:
        return predictions.ask(session, wish, caller().id, digest, key)


def _wait(prediction_id: str) -> None:
    """Until it is done, ten seconds are over, or the server is told to stop."""
    if not parts().waiters.acquire(blocking=False):
        return
    try:
        deadline, pause = time.monotonic() + LONGEST_WAIT_SECONDS, LOOK_EVERY_SECONDS
        while time.monotonic() < deadline and not parts().closing():
            time.sleep(pause)
            pause = min(pause * PATIENCE_GROWS, LOOK_SELDOM_SECONDS)
            with parts().store.reads.begin() as session:
                if predictions.is_done(session, prediction_id):
                    return
    finally:
        parts().waiters.release()


def _problem(item: answers.DataProblem, *, has_file: bool) -> Problem:
    if has_file:
        place = f"line {item.line}: " if item.line is not None else ""
        return Problem(item.code, "/file", f"{place}{item.message}", item.received, item.expected)
    path = [] if item.line is None else [item.line - 1]
    pointer = pointer_to("instances", *path, *([] if item.column is None else [item.column]))
    return Problem(item.code, pointer, item.message, item.received, item.expected)


@blueprint.get("")
@contract(
    "Predictions of a job, newest first, without their rows", {200: answers.PredictionList}, query=PageQuery
)
def every(job_id: str, query: PageQuery) -> answers.PredictionList:
    """What was asked, and what became of it; `next_after` leads to the next page."""
    with parts().store.reads.begin() as session:
        return predictions.page(session, job_id, query.limit, query.after)


@blueprint.get("/<prediction_id>")
@contract("One prediction", {200: answers.Prediction})
def one(job_id: str, prediction_id: str) -> answers.Prediction:
    """Its state, and its rows when it succeeded."""
    with parts().store.reads.begin() as session:
        return predictions.read(session, job_id, prediction_id)

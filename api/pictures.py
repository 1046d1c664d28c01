"""Pictures of a job: learning curves, and how its predictions compare with the truth."""

import functools
from collections.abc import Callable
from typing import Any, Literal

from flask import Blueprint, Response, send_file
from pydantic import Field

from api.contract import Query, contract
from api.parts import parts
from services import answers, evaluations, pictures, results
from services.artifacts import job_folder
from services.errors import Conflict, NotFound
from services.pictures import Picture
from services.states import Split

blueprint = Blueprint("pictures", __name__, url_prefix="/v1/jobs/<job_id>")
Kind = Literal["png", "svg"]
KINDS: dict[Kind, str] = {"png": "image/png", "svg": "image/svg+xml"}
NAMES: dict[Kind, str] = {"png": "a PNG", "svg": "an SVG"}
Draw = Callable[..., Picture]


class PictureQuery(Query):
    """Of which evaluation."""

    split: Split = Field(
        default=Split.VALIDATION,
        description="The newest evaluation on it is drawn; a picture opens no split.",
    )


def _picture(path: str, summary: str, query: type[Query] | None = None) -> Callable[[Draw], Draw]:
    """Serve what a function draws at two addresses: as a PNG, and as an SVG."""

    def declare(draw: Draw) -> Draw:
        for kind, media_type in KINDS.items():
            declared = contract(f"{summary}, as {NAMES[kind]}", {200: media_type}, query=query)
            view = declared(_sender(draw, kind))
            blueprint.add_url_rule(f"{path}.{kind}", f"{draw.__name__}_{kind}", view)
        return draw

    return declare


def _sender(draw: Draw, kind: Kind) -> Callable[..., Response]:
    @functools.wraps(draw)
    def send(job_id: str, **asked: Any) -> Response:
        return _send(job_id, draw(job_id, **asked), kind)

    return send


@_picture("/learning-curves", "The learning curves")
def curves(job_id: str) -> Picture:
    """Metrics over epochs, training and validation."""
    with parts().store.reads.begin() as session:
        name = results.find(session, job_id).name
        history = results.history(session, job_id)
    if not history.epoch:
        raise Conflict(f"Job {job_id} has no finished epoch: there is nothing to draw.")
    return pictures.learning_curves(name, history)


@_picture("/confusion-matrix", "Which classes were taken for which", PictureQuery)
def confusion(job_id: str, query: PictureQuery) -> Picture:
    """A row for each true class; for labels a row each with hits and misses."""
    title, outcome = _newest(job_id, query.split)
    if outcome.confusion is not None:
        return pictures.confusion_matrix(title, outcome.confusion)
    if outcome.labels is not None:
        return pictures.label_counts(title, outcome.labels)
    raise Conflict("The targets of this job are numbers, which are not confused: see predicted-vs-true.")


@_picture("/predicted-vs-true", "Predicted over true values", PictureQuery)
def scatter(job_id: str, query: PictureQuery) -> Picture:
    """A panel for each target of a regression, in its own units."""
    title, outcome = _newest(job_id, query.split)
    if outcome.scatter is not None:
        return pictures.predicted_vs_true(title, outcome.scatter)
    raise Conflict("The targets of this job are classes, not numbers: see confusion-matrix.")


def _newest(job_id: str, split: Split) -> tuple[str, answers.Outcome]:
    """The outcome to draw, with the picture's title."""
    with parts().store.reads.begin() as session:
        name = results.find(session, job_id).name
        rows, outcome = evaluations.newest_outcome(session, job_id, split)
    return f"{name}: {split} ({rows:,} rows)", outcome


def _send(job_id: str, picture: Picture, kind: Kind) -> Response:
    folder = job_folder(parts().settings.artifact_root, job_id)
    try:
        file = pictures.picture_file(folder, picture, kind)
        return send_file(file, mimetype=KINDS[kind], etag=True)
    except FileNotFoundError as error:
        # The job was deleted while its picture was drawn.
        raise NotFound("job", job_id) from error

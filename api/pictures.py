"""Pictures of a job: learning curves, and how its predictions compare with the truth."""

from collections.abc import Callable

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
PNG, SVG = "image/png", "image/svg+xml"


class PictureQuery(Query):
    """Of which evaluation."""

    split: Split = Field(
        default=Split.VALIDATION,
        description="The newest evaluation on it is drawn; a picture opens no split.",
    )


@blueprint.get("/learning-curves.png")
@contract("The learning curves as a PNG", {200: PNG})
def curves_png(job_id: str) -> Response:
    """Metrics over epochs, training and validation."""
    return _send(job_id, _curves(job_id), PNG)


@blueprint.get("/learning-curves.svg")
@contract("The learning curves as an SVG", {200: SVG})
def curves_svg(job_id: str) -> Response:
    """Metrics over epochs, training and validation."""
    return _send(job_id, _curves(job_id), SVG)


@blueprint.get("/confusion-matrix.png")
@contract("Which classes were taken for which, as a PNG", {200: PNG}, query=PictureQuery)
def confusion_png(job_id: str, query: PictureQuery) -> Response:
    """A row for each true class; for labels a row each with hits and misses."""
    return _send(job_id, _of_outcome(job_id, query.split, _confusion), PNG)


@blueprint.get("/confusion-matrix.svg")
@contract("Which classes were taken for which, as an SVG", {200: SVG}, query=PictureQuery)
def confusion_svg(job_id: str, query: PictureQuery) -> Response:
    """A row for each true class; for labels a row each with hits and misses."""
    return _send(job_id, _of_outcome(job_id, query.split, _confusion), SVG)


@blueprint.get("/predicted-vs-true.png")
@contract("Predicted over true values, as a PNG", {200: PNG}, query=PictureQuery)
def scatter_png(job_id: str, query: PictureQuery) -> Response:
    """A panel for each target of a regression, in its own units."""
    return _send(job_id, _of_outcome(job_id, query.split, _scatter), PNG)


@blueprint.get("/predicted-vs-true.svg")
@contract("Predicted over true values, as an SVG", {200: SVG}, query=PictureQuery)
def scatter_svg(job_id: str, query: PictureQuery) -> Response:
    """A panel for each target of a regression, in its own units."""
    return _send(job_id, _of_outcome(job_id, query.split, _scatter), SVG)


def _curves(job_id: str) -> Picture:
    with parts().store.reads.begin() as session:
        name = results.find(session, job_id).name
        history = results.history(session, job_id)
    if not history.epoch:
        raise Conflict(f"Job {job_id} has no finished epoch: there is nothing to draw.")
    return pictures.learning_curves(name, history)


def _of_outcome(job_id: str, split: Split, make: Callable[[str, answers.Outcome], Picture]) -> Picture:
    with parts().store.reads.begin() as session:
        name = results.find(session, job_id).name
        rows, outcome = evaluations.newest_outcome(session, job_id, split)
    return make(f"{name}: {split} ({rows:,} rows)", outcome)


def _confusion(title: str, outcome: answers.Outcome) -> Picture:
    if outcome.confusion is not None:
        return pictures.confusion_matrix(title, outcome.confusion)
    if outcome.labels is not None:
        return pictures.label_counts(title, outcome.labels)
    raise Conflict("The targets of this job are numbers, which are not confused: see predicted-vs-true.")


def _scatter(title: str, outcome: answers.Outcome) -> Picture:
    if outcome.scatter is not None:
        return pictures.predicted_vs_true(title, outcome.scatter)
    raise Conflict("The targets of this job are classes, not numbers: see confusion-matrix.")


def _send(job_id: str, picture: Picture, media_type: str) -> Response:
    folder = job_folder(parts().settings.artifact_root, job_id)
    kind = "png" if media_type == PNG else "svg"
    try:
        return send_file(pictures.picture_file(folder, picture, kind), mimetype=media_type, etag=True)
    except FileNotFoundError as error:
        # The job was deleted while its picture was drawn.
        raise NotFound("job", job_id) from error

"""A job's history as JSON, CSV and pictures."""

from typing import Literal

from flask import Blueprint, Response, request, send_file
from pydantic import Field

from api.contract import Query, contract, json_response
from api.parts import parts
from services import answers, results
from services.artifacts import job_folder
from services.curves import curves_file
from services.errors import Conflict, NotFound
from services.spec import MAX_EPOCHS

blueprint = Blueprint("histories", __name__, url_prefix="/v1/jobs/<job_id>")


class HistoryQuery(Query):
    """Which epochs, and how."""

    format: Literal["json", "csv"] | None = Field(
        default=None, description="Unset: as the Accept header asks."
    )
    from_epoch: int = Field(default=0, ge=0, le=MAX_EPOCHS, description="First epoch, 0-based.")


@blueprint.get("/history")
@contract("The per-epoch table", {200: (answers.History, "text/csv")}, query=HistoryQuery)
def history(job_id: str, query: HistoryQuery) -> Response:
    """Keras's History as JSON, or the same as CSV."""
    best = request.accept_mimetypes.best_match(["application/json", "text/csv"])
    wanted = query.format or ("csv" if best == "text/csv" else "json")
    with parts().store.reads.begin() as session:
        if wanted == "json":
            return json_response(results.history(session, job_id, query.from_epoch))
        results.find(session, job_id)
        text = results.history_csv(results.epochs(session, job_id, query.from_epoch))
    return Response(text, content_type="text/csv; charset=utf-8")


@blueprint.get("/learning-curves.png")
@contract("The learning curves as a PNG", {200: "image/png"})
def png(job_id: str) -> Response:
    """Metrics over epochs, training and validation."""
    return _picture(job_id, "png", "image/png")


@blueprint.get("/learning-curves.svg")
@contract("The learning curves as an SVG", {200: "image/svg+xml"})
def svg(job_id: str) -> Response:
    """Metrics over epochs, training and validation."""
    return _picture(job_id, "svg", "image/svg+xml")


def _picture(job_id: str, kind: str, media_type: str) -> Response:
    with parts().store.reads.begin() as session:
        name = results.find(session, job_id).name
        history = results.history(session, job_id)
    if not history.epoch:
        raise Conflict(f"Job {job_id} has no finished epoch: there is nothing to draw.")
    folder = job_folder(parts().settings.artifact_root, job_id)
    try:
        return send_file(curves_file(folder, history, name, kind), mimetype=media_type, etag=True)
    except FileNotFoundError as error:
        # The job was deleted while its picture was drawn.
        raise NotFound("job", job_id) from error

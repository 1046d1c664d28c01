"""A job's history as JSON and CSV."""

from typing import Literal

from flask import Blueprint, Response, request
from pydantic import Field

from api.contract import Query, contract, json_response
from api.parts import parts
from services import answers, results
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

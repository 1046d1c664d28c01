"""The one place where errors become HTTP: RFC 9457 problem documents."""

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from sqlalchemy.exc import OperationalError, TimeoutError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.contract import json_response
from api.streams import StreamsBusy
from api.uploads import DiskFull
from services.answers import ProblemDocument, ProblemItem
from services.errors import Conflict, KeyReused, NotFound, TrainshedError
from services.pictures import DrawingBusy, DrawingFailed
from services.problems import DocumentUnreadable, SpecInvalid

STATUS: dict[type[TrainshedError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    DrawingBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    StreamsBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    DrawingFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}
UNREADABLE = {
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
MOST_ITEMS = 100
LONGEST_ECHO = 500
log = logging.getLogger(__name__)


def register_errors(app: Flask) -> None:
    """Every error leaves as a problem document; none carries a stack trace, SQL or a path of the server."""
    app.register_error_handler(SpecInvalid, _invalid)
    app.register_error_handler(DocumentUnreadable, _unreadable)
    for kind, status in STATUS.items():
        app.register_error_handler(kind, lambda error, status=status: problem(status, str(error)))
    app.register_error_handler(OperationalError, _store_away)
    app.register_error_handler(TimeoutError, _store_away)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def problem(status: HTTPStatus, detail: str, errors: list[ProblemItem] | None = None) -> Response:
    """A problem document as a response."""
    document = ProblemDocument(
        type="about:blank",
        title=status.phrase,
        status=status,
        detail=detail,
        instance=request.path,
        errors=errors or [],
    )
    response = json_response(document, status)
    response.content_type = "application/problem+json"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "5"
    return response


def _invalid(error: SpecInvalid) -> Response:
    items = [
        ProblemItem(
            code=item.code,
            pointer=item.pointer,
            message=item.message,
            received=_shortened(item.received),
            expected=item.expected,
        )
        for item in error.problems[:MOST_ITEMS]
    ]
    found = len(error.problems)
    count = f"{found} problem{'' if found == 1 else 's'}"
    shown = "" if found <= MOST_ITEMS else f", of which {MOST_ITEMS} are listed"
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"The request has {count}{shown}; nothing was queued.", items
    )


def _shortened(received: Any) -> Any:
    """What came, unless it is so long that nobody would read it."""
    text = received if isinstance(received, str) else json.dumps(received)
    return received if len(text) <= LONGEST_ECHO else f"{text[:LONGEST_ECHO]} … ({len(text)} characters)"


def _unreadable(error: DocumentUnreadable) -> Response:
    item = ProblemItem(code=error.code, pointer="", message=str(error))
    status = UNREADABLE.get(error.code, HTTPStatus.BAD_REQUEST)
    return problem(status, "The body is not one JSON or YAML document; nothing was queued.", [item])


def _store_away(error: Exception) -> Response:
    log.warning("the store did not answer: %s", error)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer. Try again in a moment.")


def _http(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or 500)
    response = problem(status, error.description or status.phrase)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error at %s", request.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something unexpected went wrong here; the server's log has it."
    )

"""Every route but the open ones asks for a key."""

from http import HTTPStatus

from flask import Flask, Response, current_app, g, request

from api.contract import contract_of
from api.errors import problem
from api.parts import parts
from services import keys


def register_auth(app: Flask) -> None:
    """Look the caller up before each view."""
    app.before_request(_authenticate)


def _authenticate() -> Response | None:
    view = current_app.view_functions.get(request.endpoint or "")
    declared = contract_of(view)
    if declared is not None and declared.is_open:
        return None
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        return _refuse("This route needs the header `Authorization: Bearer <key>`; none came.")
    with parts().store.reads.begin() as session:
        g.caller = keys.caller(session, key.strip())
    return None if g.caller is not None else _refuse("The key is not valid here, or was revoked.")


def _refuse(detail: str) -> Response:
    response = problem(HTTPStatus.UNAUTHORIZED, detail)
    response.headers["WWW-Authenticate"] = "Bearer"
    return response

"""The application: its parts put together, one blueprint a resource."""

from http import HTTPStatus

from flask import Flask, Response, abort, request

from api import (
    datasets,
    evaluations,
    events,
    files,
    health,
    histories,
    jobs,
    lineage,
    openapi,
    pictures,
    predictions,
    queue,
    reference,
)
from api.auth import register_auth
from api.contract import LARGEST_BODY
from api.doorbell import Doorbell
from api.errors import register_errors
from api.parts import Parts
from api.streams import Streams
from services.settings import Settings, read_settings
from services.store import open_store


def create_app(settings: Settings | None = None) -> Flask:
    """A new application; settings come from the environment unless they are given."""
    settings = settings or read_settings()
    app = Flask("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.url_map.strict_slashes = False
    store = open_store(settings.database)
    app.extensions["trainshed"] = Parts(settings, store, Doorbell(settings.broker), Streams(store))
    for part in (
        jobs,
        lineage,
        histories,
        files,
        events,
        evaluations,
        predictions,
        pictures,
        datasets,
        queue,
        health,
        openapi,
        reference,
    ):
        app.register_blueprint(part.blueprint)
    app.before_request(_refuse_nul)
    register_auth(app)
    register_errors(app)
    app.after_request(_harden)
    return app


def _refuse_nul() -> None:
    # Nothing has such a name, and Postgres takes no text that holds it.
    if "\0" in request.path or any("\0" in value for value in request.args.values()):
        abort(HTTPStatus.BAD_REQUEST, "The address holds a NUL character.")


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
    response.headers.setdefault("Cache-Control", "no-cache")
    return response

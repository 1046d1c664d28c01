"""The application: its parts put together, one blueprint a resource."""

from flask import Flask, Response

from api import datasets, evaluations, files, health, histories, jobs, openapi, queue
from api.auth import register_auth
from api.doorbell import Doorbell
from api.errors import register_errors
from api.parts import Parts
from services.settings import Settings, read_settings
from services.store import open_store

LARGEST_BODY = 1_000_000


def create_app(settings: Settings | None = None) -> Flask:
    """A new application; settings come from the environment unless they are given."""
    settings = settings or read_settings()
    app = Flask("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.url_map.strict_slashes = False
    app.extensions["trainshed"] = Parts(settings, open_store(settings.database), Doorbell(settings.broker))
    for part in (jobs, histories, files, evaluations, datasets, queue, health, openapi):
        app.register_blueprint(part.blueprint)
    register_auth(app)
    register_errors(app)
    app.after_request(_harden)
    return app


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
    response.headers.setdefault("Cache-Control", "no-cache")
    return response

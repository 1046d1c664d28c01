"""What the views work with; put together once in `create_app`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import current_app, g

from api.doorbell import Doorbell
from services.keys import Caller
from services.results import Urls
from services.settings import Settings
from services.store import Store


@dataclass
class Parts:
    """The API's parts."""

    settings: Settings
    store: Store
    doorbell: Doorbell
    closing: Callable[[], bool] = lambda: False
    """Whether the server was told to stop: requests that wait end then."""

    @property
    def urls(self) -> Urls:
        """Addresses for answers."""
        return Urls(mlflow=(self.settings.mlflow_public_url or self.settings.mlflow_url).rstrip("/"))


def parts() -> Parts:
    """The parts of the application that answers this request."""
    return cast(Parts, current_app.extensions["trainshed"])


def caller() -> Caller:
    """Whose key came with this request."""
    return cast(Caller, g.caller)

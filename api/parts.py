"""What the views work with; put together once in `create_app`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import cast

from flask import current_app, g

from api.doorbell import Doorbell
from api.streams import Streams
from services.keys import Caller
from services.results import Urls
from services.settings import Settings
from services.store import Store

# Of the server's 40 threads; the rest answers everybody else.
MOST_WAITERS = 24


@dataclass
class Parts:
    """The API's parts."""

    settings: Settings
    store: Store
    doorbell: Doorbell
    streams: Streams
    waiters: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_WAITERS))
    """Room for requests that wait for a job."""
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

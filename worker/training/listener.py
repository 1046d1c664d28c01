"""The trainer's view of its supervisor."""

from typing import Protocol

from worker.events import Event, PredictRequest


class StopAsked(Exception):
    """The supervisor wants the work to end here."""


class Listener(Protocol):
    """Who is told what happens, and says when to stop and what to predict."""

    @property
    def stop_wanted(self) -> bool:
        """Whether to stop at the next chunk."""
        ...

    def next_request(self) -> PredictRequest | None:
        """Wait for a request; None if a stop was asked for."""
        ...

    def send(self, event: Event) -> None:
        """Take an event."""
        ...

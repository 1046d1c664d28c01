"""Trainshed's client, command line and embedded stack: what a user installs."""

from typing import TYPE_CHECKING

__all__ = ["AsyncClient", "Client"]

if TYPE_CHECKING:
    from trainshed.aio.client import AsyncClient
    from trainshed.client import Client
else:
    # On first use (PEP 562): httpx takes a fifth of a second that `trainshed --help` need not wait for.
    def __getattr__(name: str) -> object:
        if name == "Client":
            from trainshed.client import Client

            return Client
        if name == "AsyncClient":
            from trainshed.aio.client import AsyncClient

            return AsyncClient
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])

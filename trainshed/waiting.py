"""How the client waits; `trainshed.aio.waiting` is the same for the asynchronous one."""

from collections.abc import Callable
from time import sleep
from typing import ParamSpec, TypeVar

__all__ = ["sleep", "to_thread"]

P = ParamSpec("P")
T = TypeVar("T")


def to_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls the function: whoever is not asynchronous may as well wait in this thread."""
    return function(*args, **kwargs)

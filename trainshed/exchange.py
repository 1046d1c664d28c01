"""What a request may hold, and what its answer or its failure means."""

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TypedDict, cast

import httpx

from trainshed.answers import ProblemAnswer
from trainshed.errors import ProblemError, problem_error

AWAY = frozenset({502, 503, 504})
Params = Sequence[tuple[str, str]]


class Body(TypedDict, total=False):
    """A request's body, in one of httpx's ways to say it."""

    json: object
    content: bytes
    data: Mapping[str, str]
    files: Mapping[str, tuple[str, IO[bytes]]]


EMPTY = Body()


def delays() -> Iterator[float]:
    """Seconds between tries, without end."""
    delay = 0.2
    while True:
        yield delay
        delay = min(delay * 2, 5.0)


def why(error: httpx.TransportError) -> str:
    """What went wrong on the way."""
    return str(error) or type(error).__name__


def refusal(response: httpx.Response) -> ProblemError:
    """The error for an answer of 400 and above."""
    return problem_error(_document(response))


def _document(response: httpx.Response) -> ProblemAnswer:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        return cast(ProblemAnswer, response.json())
    # A proxy in between, or a server that is not Trainshed.
    asked = f"{response.request.method} {response.request.url.path}"
    return {
        "type": "about:blank",
        "title": response.reason_phrase,
        "status": response.status_code,
        "detail": f"{asked} was answered {response.status_code}.",
        "errors": [],
    }

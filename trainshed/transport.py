"""One HTTP request, repeated where that is safe, its refusal raised as an error."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from trainshed.answers import ProblemAnswer
from trainshed.errors import NotWritten, ProblemError, Unreachable, problem_error
from trainshed.settings import Settings, is_loopback

AWAY = frozenset({502, 503, 504})
FIRST_PATIENCE = 1.0  # seconds for a server that has not answered yet: probably it is not there
Params = Sequence[tuple[str, str]]


class Transport:
    """Sends requests to one server with one key."""

    def __init__(self, settings: Settings, *, timeout: float, patience: float) -> None:
        self.url = settings.url
        self._timeout = timeout
        self._patience = patience
        self._has_answered = False
        self._http = httpx.Client(
            base_url=settings.url,
            headers={"Authorization": f"Bearer {settings.key}"},
            timeout=timeout,
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=not is_loopback(httpx.URL(settings.url).host),
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """The parsed JSON of an answer. Raises ProblemError, Unreachable."""
        response = self.send(
            method, path, params=params, body=body, content=content, headers=headers, repeatable=repeatable
        )
        return response.json() if response.content else None

    def text(self, path: str, *, params: Params = (), accept: str = "text/plain") -> str:
        """The text of an answer."""
        return self.send("GET", path, params=params, headers={"Accept": accept}).text

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        hold: float = 0,
        repeatable: bool | None = None,
        stream: bool = False,
        on_away: Callable[[], None] | None = None,
    ) -> httpx.Response:
        """One answer. `hold` are the seconds that the server may keep the request open.

        `on_away` is called at each failure but the first, which may be no more than a worn-out connection.

        A request that never reached the server is sent again; one that may have, only if it is `repeatable`
        (by default: GET).
        """
        request = self._http.build_request(
            method,
            path,
            params=list(params),
            json=body,
            content=content,
            headers=dict(headers or {}),
            timeout=httpx.Timeout(self._timeout, read=self._timeout + hold),
        )
        is_repeatable = method == "GET" if repeatable is None else repeatable
        response = self._patiently(request, is_repeatable, stream, on_away)
        if response.status_code >= 400:
            response.read()
            raise _refusal(response)
        return response

    def once(self, path: str) -> httpx.Response:
        """One GET whose answer is wanted whatever it is."""
        try:
            return self._http.get(path)
        except httpx.TransportError as error:
            raise Unreachable(self.url, _why(error)) from error

    def download(self, path: str, target: Path) -> Path:
        """Writes an answer's body to a file, which appears only when it is whole. Raises NotWritten."""
        if target.is_dir():
            raise NotWritten(target, "it is a folder")
        if not target.parent.is_dir():
            raise NotWritten(target, f"there is no folder {target.parent}")
        response = self.send("GET", path, stream=True)
        try:
            return _write(target, response.iter_bytes())
        except OSError as error:
            raise NotWritten(target, error.strerror or str(error)) from error
        except httpx.TransportError as error:
            raise Unreachable(self.url, _why(error)) from error
        finally:
            response.close()

    def _patiently(
        self,
        request: httpx.Request,
        repeatable: bool,
        stream: bool,
        on_away: Callable[[], None] | None,
    ) -> httpx.Response:
        give_up_at: float | None = None
        for delay in _delays():
            response, failure = self._attempt(request, repeatable, stream)
            if response is not None and not (repeatable and response.status_code in AWAY):
                return response
            if give_up_at is None:
                give_up_at = time.monotonic() + self._patience_now
            elif on_away is not None:
                on_away()
            if time.monotonic() + delay > give_up_at:
                if response is not None:
                    return response
                raise Unreachable(self.url, failure)
            if response is not None:
                response.close()
            time.sleep(delay)
        raise AssertionError("the delays never end")

    def _attempt(
        self, request: httpx.Request, repeatable: bool, stream: bool
    ) -> tuple[httpx.Response | None, str]:
        try:
            response = self._http.send(request, stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return None, _why(error)
        except httpx.TransportError as error:
            if not repeatable:
                raise Unreachable(self.url, _why(error)) from error
            return None, _why(error)
        self._has_answered = True
        return response, ""

    @property
    def _patience_now(self) -> float:
        return self._patience if self._has_answered else min(self._patience, FIRST_PATIENCE)


def _delays() -> Iterator[float]:
    delay = 0.2
    while True:
        yield delay
        delay = min(delay * 2, 5.0)


def _why(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _refusal(response: httpx.Response) -> ProblemError:
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


def _write(target: Path, chunks: Iterator[bytes]) -> Path:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.writelines(chunks)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target

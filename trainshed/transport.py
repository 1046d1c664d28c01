# Made from trainshed/aio/transport.py by `make client`; change that file.
"""One HTTP request, repeated where that is safe, its refusal raised as an error."""

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from trainshed.errors import NotWritten, Unreachable
from trainshed.exchange import AWAY, EMPTY, Body, Params, delays, refusal, why
from trainshed.settings import Settings, is_loopback
from trainshed.sse import Message, Reader
from trainshed.waiting import sleep

FIRST_PATIENCE = 1.0  # seconds for a server that has not answered yet: probably it is not there
SILENCE = 30.0  # seconds; a stream says each 15 s that it lives


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
            # Reading the certificates of authorities takes 50 ms, for nothing where nobody shows one.
            verify=httpx.URL(settings.url).scheme != "http",
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def get(self, path: str, *, params: Params = ()) -> Any:
        """The parsed JSON of an answer. Raises ProblemError, Unreachable."""
        return (self.send("GET", path, params=params)).json()

    def post(
        self,
        path: str,
        body: Body = EMPTY,
        *,
        params: Params = (),
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        hold: float = 0,
    ) -> Any:
        """The parsed JSON of an answer; an Idempotency-Key, new unless given, makes it safe to repeat."""
        named = {"Idempotency-Key": key or str(uuid.uuid4()), **(headers or {})}
        response = self.send(
            "POST", path, params=params, body=body, headers=named, hold=hold, repeatable=True
        )
        return response.json()

    def text(self, path: str, *, params: Params = (), accept: str = "text/plain") -> str:
        """The text of an answer."""
        return (self.send("GET", path, params=params, headers={"Accept": accept})).text

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: Body = EMPTY,
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
            headers=dict(headers or {}),
            timeout=httpx.Timeout(self._timeout, read=self._timeout + hold),
            **body,
        )
        is_repeatable = method == "GET" if repeatable is None else repeatable
        response = self._patiently(request, is_repeatable, stream, on_away)
        if response.status_code >= 400:
            response.read()
            raise refusal(response)
        return response

    def once(self, path: str) -> httpx.Response:
        """One GET whose answer is wanted whatever it is."""
        try:
            return self._http.get(path)
        except httpx.TransportError as error:
            raise Unreachable(self.url, why(error)) from error

    def download(self, path: str, target: Path, *, params: Params = ()) -> Path:
        """Writes an answer's body to a file, which appears only when it is whole. Raises NotWritten."""
        if target.is_dir():
            raise NotWritten(target, "it is a folder")
        if not target.parent.is_dir():
            raise NotWritten(target, f"there is no folder {target.parent}")
        response = self.send("GET", path, params=params, stream=True)
        try:
            return _write(target, response.iter_bytes())
        except OSError as error:
            raise NotWritten(target, error.strerror or str(error)) from error
        except httpx.TransportError as error:
            raise Unreachable(self.url, why(error)) from error
        finally:
            response.close()

    def messages(self, path: str, *, on_away: Callable[[], None] | None = None) -> Generator[Message]:
        """A stream's messages without end: where it breaks off, it is taken up behind the last id.

        Raises Unreachable when the server stays away.
        """
        reader = Reader()
        while True:
            headers = {"Accept": "text/event-stream"}
            if reader.last_id:
                headers["Last-Event-ID"] = reader.last_id
            response = self.send("GET", path, headers=headers, hold=SILENCE, stream=True, on_away=on_away)
            reader = Reader(reader.last_id)
            with closing(_messages(response, reader)) as messages:
                yield from messages
            # The server restarts, or something in between does not let a stream live long.
            sleep(0.5)

    def _patiently(
        self,
        request: httpx.Request,
        repeatable: bool,
        stream: bool,
        on_away: Callable[[], None] | None,
    ) -> httpx.Response:
        give_up_at: float | None = None
        for delay in delays():
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
            sleep(delay)
        raise AssertionError("the delays never end")

    def _attempt(
        self, request: httpx.Request, repeatable: bool, stream: bool
    ) -> tuple[httpx.Response | None, str]:
        try:
            response = self._http.send(request, stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return None, why(error)
        except httpx.TransportError as error:
            if not repeatable:
                raise Unreachable(self.url, why(error)) from error
            return None, why(error)
        self._has_answered = True
        return response, ""

    @property
    def _patience_now(self) -> float:
        return self._patience if self._has_answered else min(self._patience, FIRST_PATIENCE)


def _messages(response: httpx.Response, reader: Reader) -> Generator[Message]:
    try:
        for chunk in response.iter_bytes():
            yield from reader.feed(chunk)
    except httpx.TransportError:
        # As its end: the next request says whether the server is still there.
        return
    finally:
        response.close()


def _write(target: Path, chunks: Iterator[bytes]) -> Path:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target

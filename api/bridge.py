"""Runs the Flask application, which is made for threads, on the asyncio server.

A request's body comes to its thread as it arrives, an answer leaves as its client takes it: neither is held
whole. An answer whose body is a `LiveBody` gives its thread back; the event loop tells the rest.
"""

import asyncio
import math
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader, RawIOBase
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestTimeout
from werkzeug.wsgi import FileWrapper

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Write = Callable[[bytes], Awaitable[None]]
Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
T = TypeVar("T")

# Each piece crosses from a thread to the loop or back, which costs 0.1 ms.
PIECE_BYTES = 256 * 1024
# A body of this size is taken by the loop, so that one that comes slowly holds no thread.
SMALL_BODY = 1_000_000
# Larger ones are read by threads: so many at once, the others wait for their turn without one.
MOST_LARGE_BODIES = 12
# A client that sends or takes nothing for so long is gone, whatever the network says.
IDLE_SECONDS = 60.0


class LiveBody(ABC):
    """A body without an end in sight. A server that has no event loop sends it empty."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    @abstractmethod
    async def tell(self, write: Write) -> None:
        """Write what there is to say; cancelled as soon as the client is gone."""


class Bridge:
    """An ASGI application that answers each request by a WSGI application in a thread of its pool."""

    def __init__(self, app: Wsgi, threads: int) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._large_bodies = asyncio.Semaphore(MOST_LARGE_BODIES)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; there are no other scopes."""
        exchange = _Exchange(asyncio.get_running_loop(), scope, receive, send)
        if _announced_body(scope) > SMALL_BODY:
            async with self._large_bodies:
                await exchange.run(self._app, self._pool)
        else:
            await exchange.take_body()
            await exchange.run(self._app, self._pool)


def _announced_body(scope: Message) -> float:
    """How many bytes are to come; endless for a body that does not say it, or is not yet wanted."""
    headers = dict(scope["headers"])
    # Who asks first whether to send is answered by whoever knows.
    if b"transfer-encoding" in headers or b"expect" in headers:
        return math.inf
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else math.inf


class _Exchange:
    """One request and its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scope: Message, receive: Receive, send: Send) -> None:
        self._loop = loop
        self._scope = scope
        self._receive = receive
        self._send = send
        self._head: Message | None = None
        self._departure: asyncio.Task[None] | None = None
        self._taken: deque[Message | HTTPException] = deque()

    async def take_body(self) -> None:
        """Read the body before a thread is asked for; what goes wrong is told to whoever reads it."""
        has_more = True
        while has_more:
            try:
                message = await self._next_message()
            except HTTPException as error:
                self._taken.append(error)
                return
            self._taken.append(message)
            has_more = message.get("more_body", False)

    async def run(self, app: Wsgi, pool: ThreadPoolExecutor) -> None:
        try:
            rest = await self._loop.run_in_executor(pool, self._answer, app)
            if isinstance(rest, LiveBody):
                await self._tell(rest)
            else:
                await self._pass_on(rest, has_more=False)
        except ClientDisconnected:
            # Nobody is left to be answered.
            return
        finally:
            if self._departure is not None:
                self._departure.cancel()

    def _answer(self, app: Wsgi) -> LiveBody | bytes:
        """Runs in a thread, which is free before the last piece leaves; most answers have one piece."""
        body = app(self._environ(), self._start)
        if isinstance(body, LiveBody):
            return body
        held = b""
        try:
            for piece in body:
                if held:
                    self._in_loop(self._pass_on(held, has_more=True))
                held = piece
        finally:
            if (close := getattr(body, "close", None)) is not None:
                close()
        return held

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self._head = {
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers
                # The server dates every answer; Flask those that a client may keep.
                if name.lower() != "date"
            ],
        }

    async def _pass_on(self, piece: bytes, *, has_more: bool) -> None:
        if self._departure is not None and self._departure.done():
            raise ClientDisconnected
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                if self._head is not None:
                    head, self._head = self._head, None
                    await self._send(head)
                await self._send({"type": "http.response.body", "body": piece, "more_body": has_more})
        except TimeoutError as error:
            raise ClientDisconnected from error
        if has_more and self._departure is None:
            # The server tells nobody who sends that the client has left; it says so to who receives.
            self._departure = self._loop.create_task(self._until_departure())

    async def _until_departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _tell(self, live: LiveBody) -> None:
        async def write(piece: bytes) -> None:
            await self._pass_on(piece, has_more=True)

        await write(b"")
        assert self._departure is not None
        telling = self._loop.create_task(live.tell(write))
        try:
            await asyncio.wait({telling, self._departure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            await asyncio.wait({telling})
        if not telling.cancelled():
            telling.result()
            await self._pass_on(b"", has_more=False)

    async def next_piece(self) -> Message:
        """The next of the request's body; raises what Flask answers with 400 or 408."""
        if not self._taken:
            return await self._next_message()
        taken = self._taken.popleft()
        if isinstance(taken, HTTPException):
            raise taken
        return taken

    async def _next_message(self) -> Message:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestTimeout(f"Nothing of the body came for {IDLE_SECONDS:.0f} s.") from error
        if message["type"] == "http.disconnect":
            # Not an end: what came is not the whole.
            raise ClientDisconnected
        return message

    def _environ(self) -> Environ:
        scope = self._scope
        host, port = scope["server"] or ("localhost", 80)
        environ = {
            "REQUEST_METHOD": scope["method"],
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            "SERVER_NAME": host,
            "SERVER_PORT": str(port or 0),
            "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
            "REMOTE_ADDR": (scope["client"] or ("", 0))[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope["scheme"],
            "wsgi.input": BufferedReader(_Body(lambda: self._in_loop(self.next_piece())), PIECE_BYTES),
            # A body without Content-Length (chunked) has an end, too.
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": lambda file, size=0: FileWrapper(file, PIECE_BYTES),
        }
        return environ | _header_variables(scope["headers"])


def _header_variables(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        # As variables, `X_A` and `X-A` have one name; only the latter is a header that anybody means.
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        name = name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


class _Body(RawIOBase):
    """A request's body as a file that is read once, from the start."""

    def __init__(self, next_piece: Callable[[], Message]) -> None:
        self._next_piece = next_piece
        self._piece = memoryview(b"")
        self._has_more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece and self._has_more:
            message = self._next_piece()
            self._piece = memoryview(message.get("body", b""))
            self._has_more = message.get("more_body", False)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

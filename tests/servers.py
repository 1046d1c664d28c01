"""The real HTTP server on a free loopback port, and a reader of its event streams."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import httpx
from flask import Flask

from api.server import make_server
from tests.conftest import wait_until


@contextmanager
def running_server(app: Flask) -> Iterator[str]:
    """The server in a thread of its own; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, "127.0.0.1", 0)
    thread = Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@dataclass(frozen=True)
class Message:
    """One block of a stream; a comment has the name `:`."""

    name: str
    data: Any = None
    id: str | None = None


class Stream:
    """An open event stream. Iterating it waits for what comes next; it ends when the server closes."""

    def __init__(self, response: httpx.Response, last_id: str | None) -> None:
        self.response = response
        # As browsers do: what comes first may have no id.
        self.last_id = last_id
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[Message]:
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line:
                if message := self._message(fields):
                    yield message
                fields = {}
                continue
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")

    def _message(self, fields: dict[str, str]) -> Message | None:
        # As browsers do: an id counts without data, too.
        self.last_id = fields.get("id", self.last_id)
        if "" in fields:
            return Message(":", fields[""])
        if "data" not in fields:
            return None
        return Message(fields["event"], json.loads(fields["data"]), fields.get("id"))


@contextmanager
def open_stream(
    client: httpx.Client, path: str, last_id: str | None = None, seconds: float = 30
) -> Iterator[Stream]:
    """A stream, from the last id on; fails if nothing comes for so many seconds."""
    headers = {"Accept": "text/event-stream"} | ({} if last_id is None else {"Last-Event-ID": last_id})
    with client.stream("GET", path, headers=headers, timeout=seconds) as response:
        if response.status_code != 200:
            response.read()
        assert response.status_code == 200, response.text
        yield Stream(response, last_id)

"""The HTTP server: one process, one event loop, and threads for what Flask answers."""

import logging
import os
import resource
import signal
import socket
from contextlib import suppress
from typing import Any, cast

import uvicorn
from flask import Flask

from api.bridge import Bridge
from api.parts import Parts

# Requests that wait for a job hold a thread each; api/parts.py leaves some to the others.
THREADS = 40
# Waiting requests and streams end by themselves when the server is told to stop; a download may need longer.
GRACE_SECONDS = 8
# Each connection takes one; a usual limit of 1,024 is fewer than the streams that may be open.
MOST_DESCRIPTORS = 65_536


class Server(uvicorn.Server):
    """A server that tells its open streams to end before it waits for them."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts
        parts.closing = lambda: self.should_exit

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams, then requests."""
        self._parts.streams.close()
        await super().shutdown(sockets)


def make_server(app: Flask, host: str, port: int) -> Server:
    """A server of the application; port 0 takes a free one."""
    config = uvicorn.Config(
        cast(Any, Bridge(app, THREADS)),
        host=host,
        port=port,
        # Pure Python: 0.3 ms a request, and one compiled package less.
        http="h11",
        loop="asyncio",
        # Nothing here speaks WebSocket, and nothing has to be started before the first request.
        ws="none",
        lifespan="off",
        # Connections of clients that poll stay open between requests.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
        # Whoever can reach the port could name any address in X-Forwarded-For.
        proxy_headers=False,
        # No hint for those who look for holes of one version.
        server_header=False,
        access_log=False,
        # The program that starts the server sets logging up.
        log_config=None,
    )
    return Server(config, app.extensions["trainshed"])


def serve(app: Flask, host: str, port: int) -> None:
    """Answer until SIGTERM or SIGINT; does not return."""
    _allow_many_connections()
    server = make_server(app, host, port)
    # The server raises a signal that ended it once more when it is done; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run()
    logging.shutdown()
    # A thread that still draws a picture or waits for SQL would hold the process for up to a minute.
    os._exit(0)


def _allow_many_connections() -> None:
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS has a limit below "unlimited" that it does not tell.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""The HTTP server under Flask: bodies of any length in both directions, clients that leave, bad HTTP."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import httpx
import pytest
from flask import Flask, Response, request, send_file
from werkzeug.exceptions import ClientDisconnected

from api.server import THREADS
from tests.conftest import wait_until
from tests.servers import running_server

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
MEGABYTE = 1_000_000


@pytest.fixture
def serve(app: Flask, key: str) -> Iterator[Callable[..., httpx.Client]]:
    """Serves one more view, and gives a client of it."""
    opened: list[httpx.Client] = []
    servers = []

    def start(view: Callable[[], object], *methods: str) -> httpx.Client:
        app.add_url_rule("/probe", "probe", view, methods=methods or ("GET", "POST"))
        server = running_server(app)
        servers.append(server)
        client = httpx.Client(base_url=server.__enter__(), headers={"Authorization": f"Bearer {key}"})
        opened.append(client)
        return client

    yield start
    for client, server in zip(opened, servers, strict=True):
        client.close()
        server.__exit__(None, None, None)


def digest_of_the_body() -> str:
    request.max_content_length = 1000 * MEGABYTE
    digest = hashlib.sha256()
    while piece := request.stream.read(100_000):
        digest.update(piece)
    return digest.hexdigest()


def pieces(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(4, "big") * 25_000


def connect(client: httpx.Client) -> socket.socket:
    address = urlsplit(str(client.base_url))
    return socket.create_connection((address.hostname, address.port), 10)


def head(client: httpx.Client, method: str, *lines: str, path: str = "/probe") -> bytes:
    key = client.headers["Authorization"]
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: {key}", *lines, "", ""]
    ).encode()


def test_a_chunked_body_arrives_whole(serve: Callable[..., httpx.Client]) -> None:
    answer = serve(digest_of_the_body).post("/probe", content=pieces(80))
    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    assert answer.text == hashlib.sha256(b"".join(pieces(80))).hexdigest()


def test_every_answer_is_dated_once(serve: Callable[..., httpx.Client], tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"weights")
    client = serve(lambda: send_file(file, "application/octet-stream"))
    for path in ("/probe", "/v1/jobs", "/v1/nowhere"):
        assert len(client.get(path).headers.get_list("Date")) == 1, path


def test_a_chunked_body_is_a_spec_like_any_other(serve: Callable[..., httpx.Client]) -> None:
    client = serve(digest_of_the_body)
    answer = client.post(
        "/v1/jobs", content=iter([b'{"name": ', b'"x"}']), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "/model" in {item["pointer"] for item in answer.json()["errors"]}


def test_a_body_that_nobody_reads_waits_at_its_sender(serve: Callable[..., httpx.Client]) -> None:
    go_on = Event()

    def view() -> str:
        go_on.wait(60)
        return digest_of_the_body()

    client = serve(view)
    body = os.urandom(100) * (64 * MEGABYTE // 100)
    with connect(client) as connection:
        connection.sendall(head(client, "POST", f"Content-Length: {len(body)}"))
        connection.settimeout(1)
        sent = 0
        with suppress(TimeoutError):
            while sent < len(body):
                sent += connection.send(body[sent : sent + MEGABYTE])
        # What the kernel's buffers of both ends hold, and little more.
        assert sent < 32 * MEGABYTE
        go_on.set()
        connection.settimeout(30)
        connection.sendall(body[sent:])
        assert hashlib.sha256(body).hexdigest().encode() in read_answer(connection)


def read_answer(connection: socket.socket) -> bytes:
    """A short answer with its body."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65536)
    top, _, rest = text.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in top.splitlines() if line.startswith(b"content-length"))
    while len(rest) < length:
        rest += connection.recv(65536)
    return top + b"\r\n\r\n" + rest


@pytest.mark.parametrize("framing", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
def test_a_view_learns_that_its_client_left_in_the_middle_of_a_body(
    serve: Callable[..., httpx.Client], framing: str
) -> None:
    """Half a file must never be taken for a whole one."""
    ends: list[str] = []

    def view() -> str:
        try:
            digest_of_the_body()
        except ClientDisconnected:
            ends.append("left")
            raise
        ends.append("whole")
        return ""

    client = serve(view)
    with connect(client) as connection:
        connection.sendall(head(client, "POST", framing) + b"4\r\nhalf\r\n")
    wait_until(lambda: bool(ends))
    assert ends == ["left"]
    assert client.get("/healthz").status_code == 200


def test_an_answer_is_made_as_its_client_takes_it_and_ends_when_it_leaves(
    serve: Callable[..., httpx.Client],
) -> None:
    made: list[int] = []
    ended = Event()

    def view() -> Response:
        def body() -> Iterator[bytes]:
            try:
                for number in range(1000):
                    made.append(number)
                    yield bytes(MEGABYTE)
            finally:
                ended.set()

        return Response(body(), content_type="application/octet-stream")

    client = serve(view)
    with connect(client) as connection:
        connection.sendall(head(client, "GET"))
        assert b"200 OK" in connection.recv(1000)
        assert not ended.wait(1)
        assert len(made) < 32
    assert ended.wait(30)
    assert len(made) < 64


def test_a_large_file_is_served_whole_and_in_parts(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    content = b"".join(pieces(50))
    path.write_bytes(content)
    client = serve(lambda: send_file(path, mimetype="application/octet-stream", etag="x", conditional=True))
    whole = client.get("/probe")
    assert whole.content == content
    part = client.get("/probe", headers={"Range": "bytes=1000-2500000"})
    assert part.status_code == 206
    assert part.content == content[1000:2500001]
    head = client.head("/probe")
    assert (head.headers["Content-Length"], head.content) == (str(len(content)), b"")
    assert client.get("/probe", headers={"If-None-Match": '"x"'}).status_code == 304


def test_a_client_that_asks_first_is_told_to_send_only_what_is_wanted(
    serve: Callable[..., httpx.Client],
) -> None:
    client = serve(digest_of_the_body)
    asking = ("Content-Length: 4", "Expect: 100-continue")
    with connect(client) as connection:
        connection.sendall(head(client, "POST", *asking))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"body")
        assert hashlib.sha256(b"body").hexdigest().encode() in read_answer(connection)
    with connect(client) as connection:
        connection.sendall(head(client, "POST", *asking, path="/v1/nowhere"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 404")


def test_a_connection_is_kept_after_an_answer_and_after_a_refused_body(
    serve: Callable[..., httpx.Client],
) -> None:
    client = serve(digest_of_the_body)
    with connect(client) as connection:
        connection.sendall(head(client, "GET") + head(client, "GET"))
        assert b"200 OK" in read_answer(connection)
        connection.sendall(head(client, "PUT", "Content-Length: 5000000") + bytes(5_000_000))
        assert b"405" in connection.recv(65536)
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "text", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost x\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_what_is_no_http_is_answered_with_400_or_not_at_all(
    serve: Callable[..., httpx.Client], text: bytes
) -> None:
    client = serve(digest_of_the_body)
    with connect(client) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert client.get("/healthz").status_code == 200


def test_nobody_is_believed_to_be_somebody_else(serve: Callable[..., httpx.Client]) -> None:
    def view() -> dict[str, object]:
        return {"address": request.remote_addr, "scheme": request.scheme, "host": request.headers.get("X-A")}

    client = serve(view)
    headers = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "https", "X_A": "spoofed"}
    answer = client.get("/probe", headers=headers)
    assert answer.json() == {"address": "127.0.0.1", "scheme": "http", "host": None}
    assert "Server" not in answer.headers


def test_an_address_keeps_its_escapes(serve: Callable[..., httpx.Client]) -> None:
    client = serve(digest_of_the_body)
    assert client.get("/v1/jobs/%C3%A4%20b").json()["detail"] == "There is no job 'ä b'."
    assert client.get("/v1/jobs/%FF").status_code == 404
    assert client.get("/v1/jobs/%00").status_code == 400


@pytest.mark.parametrize("announced", [100_000, 5 * MEGABYTE])
def test_bodies_that_never_come_leave_threads_to_everybody_else(
    serve: Callable[..., httpx.Client], announced: int
) -> None:
    client = serve(digest_of_the_body)
    with ExitStack() as stack:
        for _ in range(THREADS + 5):
            sender = stack.enter_context(connect(client))
            sender.sendall(head(client, "POST", f"Content-Length: {announced}") + b"some")
        for _ in range(5):
            assert client.get("/healthz", timeout=20).status_code == 200

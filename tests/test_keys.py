"""API keys: made, checked, written to a file of their own."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import func, select, update

from services.keys import caller, ensure_key_file, make_key
from services.models import ApiKey, Owner
from services.store import Store, now_ms

ROOT = Path(__file__).parents[1]


def test_a_key_lets_its_owner_in(store: Store) -> None:
    with store.writes.begin() as session:
        key = make_key(session, "ada")
        found = caller(session, key)
        assert found is not None
        assert found.name == "ada"
        assert caller(session, key + "x") is None
        assert caller(session, "") is None


def test_a_person_may_have_several_keys(store: Store) -> None:
    with store.writes.begin() as session:
        one, two = make_key(session, "ada"), make_key(session, "ada")
        assert one != two
        assert caller(session, one) == caller(session, two)
        assert session.scalar(select(func.count()).select_from(Owner)) == 1


def test_the_secret_is_not_stored(store: Store) -> None:
    with store.writes.begin() as session:
        key = make_key(session, "ada")
        row = session.scalars(select(ApiKey)).one()
    assert len(key) > 40
    assert key not in repr(vars(row))
    assert row.hint == key[:8]


def test_a_revoked_key_lets_nobody_in(store: Store) -> None:
    with store.writes.begin() as session:
        key = make_key(session, "ada")
        session.execute(update(ApiKey).values(revoked_at=now_ms()))
        assert caller(session, key) is None


def test_the_first_key_is_in_a_file_that_only_its_owner_can_read(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert ensure_key_file(store, path, "ada")
    assert path.stat().st_mode & 0o777 == 0o600
    with store.reads.begin() as session:
        found = caller(session, path.read_text().strip())
    assert found is not None
    assert found.name == "ada"


def test_a_valid_key_file_is_kept_and_an_invalid_one_replaced(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "key"
    ensure_key_file(store, path, "ada")
    first = path.read_text()
    assert not ensure_key_file(store, path, "ada")
    assert path.read_text() == first
    path.write_text("of another database\n")
    path.chmod(0o644)
    assert ensure_key_file(store, path, "ada")
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir() if "key" in file.name) == ["key"]


def test_the_command_prints_a_new_key(store: Store, database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "TRAINSHED_DATABASE_URL": database_url,
        "TRAINSHED_BROKER_URL": "redis://127.0.0.1:9/0",
        "TRAINSHED_ARTIFACT_ROOT": str(tmp_path),
        "TRAINSHED_MLFLOW_URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "services.keys", "make", "--owner", "bob"]
    printed = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True)
    with store.reads.begin() as session:
        found = caller(session, printed.stdout.strip())
    assert found is not None
    assert found.name == "bob"

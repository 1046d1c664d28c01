"""Migrations: up and down on both databases, equal to the metadata, guarded by triggers."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Constraint, MetaData, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

import services.models
from migrations.__main__ import configuration
from services import evaluations, jobs
from services.errors import StoreOutdated
from services.models import Base
from services.revision import REVISION, require_revision
from services.states import TERMINAL_STATES, JobState, Split
from services.store import Store, open_store
from tests.builders import make_job, make_owner, make_success

ROOT = Path(__file__).parents[1]


def tables_at(url: str) -> set[str]:
    store = open_store(url)
    names = set(inspect(store.engine).get_table_names())
    store.engine.dispose()
    return names - {"alembic_version"}


def test_up_down_and_up_again(empty_url: str) -> None:
    config = configuration(empty_url)
    command.upgrade(config, "head")
    assert tables_at(empty_url) == set(Base.metadata.tables)
    command.downgrade(config, "base")
    assert tables_at(empty_url) == set()
    command.upgrade(config, "head")
    assert tables_at(empty_url) == set(Base.metadata.tables)


def test_down_leaves_no_function_of_a_trigger(empty_url: str) -> None:
    config = configuration(empty_url)
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    store = open_store(empty_url)
    left = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if not store.is_sqlite:
        left = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    with store.engine.connect() as connection:
        assert connection.scalars(text(left)).all() == []
    store.engine.dispose()


def test_the_migrated_database_equals_the_metadata(database_url: str) -> None:
    command.check(configuration(database_url))


def test_the_code_names_the_newest_revision() -> None:
    scripts = ScriptDirectory.from_config(configuration("sqlite://"))
    assert scripts.get_current_head() == REVISION


def test_a_migrated_store_is_accepted(store: Store) -> None:
    require_revision(store)


def test_an_empty_store_is_refused_with_the_command_that_helps(empty_url: str) -> None:
    store = open_store(empty_url)
    with pytest.raises(StoreOutdated, match=f"revision none, this code needs {REVISION}.*migrations upgrade"):
        require_revision(store)
    store.engine.dispose()


def test_of_two_migrators_at_once_neither_fails(empty_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "TRAINSHED_DATABASE_URL": empty_url,
        "TRAINSHED_BROKER_URL": "redis://127.0.0.1:9/0",
        "TRAINSHED_ARTIFACT_ROOT": str(tmp_path),
        "TRAINSHED_MLFLOW_URL": "http://127.0.0.1:9",
    }
    migrators = [
        subprocess.Popen(
            [sys.executable, "-m", "migrations", "upgrade"],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [migrator.communicate(timeout=60)[1] for migrator in migrators]
    assert [migrator.returncode for migrator in migrators] == [0, 0], said
    assert tables_at(empty_url) == set(Base.metadata.tables)


def test_the_command_names_the_setting_that_is_missing() -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TRAINSHED_")}
    done = subprocess.run(
        [sys.executable, "-m", "migrations", "upgrade"],
        check=False,
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "TRAINSHED_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("end", sorted(TERMINAL_STATES))
def test_a_terminal_state_cannot_be_changed_by_hand(store: Store, end: JobState) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
        _set_state(session, job_id, end)
        _set_state(session, job_id, end)
    for other in set(JobState) - {end}:
        with (
            pytest.raises(DatabaseError, match="a job that ended cannot change its state"),
            store.writes.begin() as session,
        ):
            _set_state(session, job_id, other)


def _set_state(session: Session, job_id: str, state: str) -> None:
    session.execute(text("UPDATE jobs SET state = :state WHERE id = :id"), {"state": state, "id": job_id})


def test_a_state_that_is_none_is_refused(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    with pytest.raises(DatabaseError, match="ck_jobs_state"), store.writes.begin() as session:
        _set_state(session, job_id, "sleeping")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE looks SET why = 'another'", "DELETE FROM looks", "UPDATE looks SET looks_before = 0"],
)
def test_a_look_can_be_neither_changed_nor_removed_by_hand(store: Store, statement: str) -> None:
    with store.writes.begin() as session:
        claim = make_success(session)
        evaluations.ask(session, claim.lease.job_id, make_owner(session).id, Split.TEST, "curious")
    with pytest.raises(DatabaseError, match="never changed or removed"), store.writes.begin() as session:
        session.execute(text(statement))


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_the_ledger_cannot_be_emptied_by_hand(store: Store) -> None:
    with pytest.raises(DatabaseError, match="never changed or removed"), store.writes.begin() as session:
        session.execute(text("TRUNCATE looks"))


def test_a_look_outlives_its_job(store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_success(session)
        evaluations.ask(session, claim.lease.job_id, make_owner(session).id, Split.TEST, "curious")
        jobs.delete(session, claim.lease.job_id)
    with store.reads.begin() as session:
        assert session.scalars(text("SELECT why FROM looks")).all() == ["curious"]


def test_every_constraint_and_index_has_its_name_in_the_database(store: Store) -> None:
    reflected = MetaData()
    reflected.reflect(store.engine)
    for table in Base.metadata.tables.values():
        declared = {_name(item) for item in (*table.constraints, *table.indexes)}
        assert None not in declared, table.name
        found = {_name(item) for item in (*reflected.tables[table.name].constraints, *table.indexes)}
        assert declared <= found | _checks(store, table.name), table.name


def _name(item: Constraint | object) -> str | None:
    name = getattr(item, "name", None)
    return None if name is None else str(name)


def _checks(store: Store, table: str) -> set[str | None]:
    return {check["name"] for check in inspect(store.engine).get_check_constraints(table)}


def test_every_column_is_followed_by_a_sentence() -> None:
    tree = ast.parse(Path(services.models.__file__).read_text())
    bare = []
    for table in [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "Base"]:
        for column, after in zip(table.body, [*table.body[1:], None], strict=True):
            if isinstance(column, ast.AnnAssign) and not _is_sentence(after):
                bare.append(f"{table.name}.{ast.unparse(column.target)}")
    assert bare == []


def _is_sentence(node: ast.stmt | None) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and str(value.value).endswith(".")

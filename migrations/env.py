"""What Alembic runs for each command: one connection, one transaction, one migrator at a time."""

from alembic import context
from sqlalchemy import Connection, text

from services.models import Base
from services.store import open_store

# Any constant will do, as long as nothing else in this database locks on it.
MIGRATION_LOCK = 7_741_000


def migrate() -> None:
    """Run the migrations; a second migrator waits for the first and then finds nothing to do."""
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None
    store = open_store(url)
    # The option makes SQLite begin with BEGIN IMMEDIATE, which keeps a second migrator out.
    with store.engine.execution_options(trainshed_writes=True).begin() as connection:
        if not store.is_sqlite:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        _configure(connection)
        context.run_migrations()
    store.engine.dispose()


def _configure(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=False,
    )


migrate()

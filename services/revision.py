"""Which database revision this code was written for."""

from typing import Final

from sqlalchemy import inspect, text

from services.errors import StoreOutdated
from services.store import Store

REVISION: Final = "0005"


def require_revision(store: Store) -> None:
    """Raise StoreOutdated unless the database is at this code's revision. Nothing is migrated."""
    with store.engine.connect() as connection:
        found = None
        if inspect(connection).has_table("alembic_version"):
            found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found != REVISION:
        raise StoreOutdated(found, REVISION)

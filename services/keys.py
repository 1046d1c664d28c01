"""API keys: made, checked, kept as digests. `python -m services.keys ensure --file PATH` makes the first."""

import argparse
import functools
import hashlib
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Select, bindparam, insert, select
from sqlalchemy.orm import Session

from services.ids import new_id
from services.models import ApiKey, Owner
from services.settings import SettingsError, read_settings
from services.store import Store, now_ms, open_store

PREFIX = "ts_"


@dataclass(frozen=True)
class Caller:
    """Whose key came with a request."""

    id: str
    name: str


def make_key(session: Session, owner_name: str) -> str:
    """A new key for a person, who is added if there is none of that name. It is shown only here."""
    owner_id = session.scalar(select(Owner.id).where(Owner.name == owner_name))
    if owner_id is None:
        owner_id = new_id()
        session.execute(insert(Owner).values(id=owner_id, name=owner_name, created_at=now_ms()))
    key = PREFIX + secrets.token_urlsafe(32)
    _insert(session, owner_id, key)
    return key


def _insert(session: Session, owner_id: str, key: str) -> None:
    session.execute(
        insert(ApiKey).values(
            id=new_id(), owner_id=owner_id, sha256=_digest(key), hint=key[:8], created_at=now_ms()
        )
    )


def caller(session: Session, key: str) -> Caller | None:
    """Whose valid key this is; None for any other text."""
    row = session.execute(_owner_of_key(), {"sha256": _digest(key)}).one_or_none()
    return None if row is None else Caller(*row)


# Each request asks: built once, since building the statement takes longer than running it.
@functools.cache
def _owner_of_key() -> Select[str, str]:
    return (
        select(Owner.id, Owner.name)
        .join(ApiKey, ApiKey.owner_id == Owner.id)
        .where(ApiKey.sha256 == bindparam("sha256"), ApiKey.revoked_at.is_(None))
    )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def ensure_key_file(store: Store, path: Path, owner_name: str) -> bool:
    """Make a key in a file of mode 0600, unless the file holds a valid one. True if one was made."""
    if path.exists():
        with store.reads.begin() as session:
            if caller(session, path.read_text().strip()) is not None:
                return False
    with store.writes.begin() as session:
        key = make_key(session, owner_name)
        # Written before the commit: a key in the table that nobody can read would be lost.
        _write_secret(path, key)
    return True


def _write_secret(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    temporary.replace(path)


def main(arguments: list[str]) -> int:
    """`ensure --file PATH [--owner NAME]` or `make --owner NAME`, which prints the new key."""
    parser = argparse.ArgumentParser(prog="python -m services.keys")
    commands = parser.add_subparsers(dest="command", required=True)
    ensure = commands.add_parser("ensure", help="make the first key, unless the file holds a valid one")
    ensure.add_argument("--file", type=Path, required=True)
    ensure.add_argument("--owner", default="admin")
    commands.add_parser("make", help="print a new key").add_argument("--owner", required=True)
    options = parser.parse_args(arguments)
    try:
        store = open_store(read_settings().database)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if options.command == "ensure":
        made = ensure_key_file(store, options.file, options.owner)
        print(f"{'Made' if made else 'Kept'} the API key in {options.file}.")
    else:
        with store.writes.begin() as session:
            print(make_key(session, options.owner))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

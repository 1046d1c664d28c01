"""One leader a loop: a row that expires, so that a dead leader is followed by another."""

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.models import Leader
from services.store import changed_rows, now_ms


def lead(session: Session, name: str, holder: str, seconds: float) -> bool:
    """Become or stay leader of a loop for so many seconds; False if somebody else leads."""
    until = now_ms() + int(seconds * 1000)
    renewed = changed_rows(
        session,
        update(Leader)
        .where(Leader.name == name, or_(Leader.holder == holder, Leader.until < now_ms()))
        .values(holder=holder, until=until),
    )
    if renewed:
        return True
    if session.scalar(select(Leader.name).where(Leader.name == name)) is not None:
        return False
    try:
        with session.begin_nested():
            session.execute(insert(Leader).values(name=name, holder=holder, until=until))
    except IntegrityError:
        # Another process inserted the row first, and leads.
        return False
    return True


def resign(session: Session, holder: str) -> None:
    """Let others lead at once."""
    session.execute(delete(Leader).where(Leader.holder == holder))

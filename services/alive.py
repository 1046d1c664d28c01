"""Whether the worker on this host is warm and gave a sign of life lately: `python -m services.alive KIND`.

For a container's health check, where asking the broker would tell about the broker. Exit status 0: it is.
"""

import socket
import sys

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services import workers
from services.settings import SettingsError, read_settings
from services.store import open_store


def is_alive(session: Session, kind: str, host: str) -> bool:
    """Whether a worker of this kind on this host is present and ready."""
    return any(
        worker.kind == kind and worker.host == host and worker.ready for worker in workers.present(session)
    )


def main(arguments: list[str]) -> int:
    """The command; says on stderr what is wrong."""
    if len(arguments) != 1 or arguments[0] not in (workers.TRAIN, workers.HOUSEKEEPING):
        sys.stderr.write("python -m services.alive train|housekeeping\n")
        return 2
    try:
        with open_store(read_settings().database).reads.begin() as session:
            alive = is_alive(session, arguments[0], socket.gethostname())
    except (SettingsError, SQLAlchemyError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not alive:
        sys.stderr.write(f"No warm {arguments[0]} worker of this host was seen lately.\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m worker train | housekeeping`: one worker process, put together here."""

import logging
import os
import socket
import sys
import warnings
from typing import Any

from celery.exceptions import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down

from services.errors import StoreOutdated
from services.revision import require_revision
from services.settings import Settings, SettingsError, read_settings
from services.store import open_store
from worker.app import make_app, worker_arguments
from worker.housekeeping import HousekeepingWorker
from worker.train import TrainWorker
from worker.trainers import scrub_environment

KINDS: dict[str, type[TrainWorker] | type[HousekeepingWorker]] = {
    "train": TrainWorker,
    "housekeeping": HousekeepingWorker,
}


def main(arguments: list[str]) -> int:
    """Run until SIGTERM; returns the exit code."""
    if len(arguments) != 1 or arguments[0] not in KINDS:
        print(__doc__, file=sys.stderr)
        return 2
    _set_up_logging()
    try:
        settings = read_settings()
        store = open_store(settings.database)
        require_revision(store)
    except (SettingsError, StoreOutdated) as error:
        print(error, file=sys.stderr)
        return 2
    scrub_environment()
    worker = KINDS[arguments[0]](settings, store, _name(settings, arguments[0]))
    app = make_app(settings.broker)
    worker.start(app)

    def on_shutting_down(**_: Any) -> None:
        worker.stop()

    worker_shutting_down.connect(on_shutting_down, weak=False)
    try:
        app.worker_main(worker_arguments(worker.queues, worker.concurrency))
    finally:
        worker.stop()
        worker.leave()


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # A receiver here keeps Celery from setting logging up again in its own way.
    setup_logging.connect(lambda **_: None, weak=False)
    # Two lines for each ring would bury the others.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns that messages could run code as root; ours are JSON without content.
    warnings.simplefilter("ignore", SecurityWarning)


def _name(settings: Settings, kind: str) -> str:
    return f"{kind}@{settings.worker_name or f'{socket.gethostname()}:{os.getpid()}'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

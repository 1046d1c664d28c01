"""Reads datasets that jobs wait for, in a limited child process, and hands them over to SQL."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from services import datasets
from services.store import Store
from worker.loops import Loop
from worker.preparing import Ready, prepare

SIGN_SECONDS = 10.0
log = logging.getLogger(__name__)


def read_next(store: Store, root: Path, ring: Callable[[], None]) -> bool:
    """Read one dataset that waits for it; False if there was none."""
    with store.writes.begin() as session:
        name = datasets.take(session)
    if name is None:
        return False
    log.info("dataset %s: reading", name)
    sign = Loop("reader's sign of life", lambda: _touch(store, name), SIGN_SECONDS)
    sign.start()
    outcome = prepare(name, root)
    sign.stop()
    sources = [asdict(source) for source in outcome.sources]
    for source in outcome.sources:
        log.info("dataset %s: %s: %s", name, source.name, source.why or "has it")
    with store.writes.begin() as session:
        if isinstance(outcome, Ready):
            waiting = datasets.accept(session, name, outcome.sha256, outcome.schema, sources)
            log.info("dataset %s: ready as %s", name, outcome.sha256)
        else:
            waiting = datasets.reject(session, name, outcome.problem, sources)
            log.warning("dataset %s: rejected. %s", name, outcome.problem)
    if waiting:
        ring()
    return True


def _touch(store: Store, name: str) -> bool:
    with store.writes.begin() as session:
        datasets.touch(session, name)
    return False

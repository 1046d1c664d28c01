"""Reads datasets that jobs wait for, and files that people sent, in limited child processes; tells SQL."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sqlalchemy.orm import Session

from services import datasets, removals, uploads
from services.answers import DataProblem
from services.artifacts import dataset_folder, upload_folder
from services.datasets import Reading
from services.store import Store
from services.uploads import UploadClaim
from worker.loops import Loop
from worker.preparing import Ready, prepare
from worker.upload_child import Accepted, Died, Refused, read_files

SIGN_SECONDS = 10.0
# No request takes so long.
LEFTOVER_SECONDS = 24 * 3600.0
log = logging.getLogger(__name__)


def read_next(store: Store, root: Path, ring: Callable[[], None]) -> bool:
    """Read one dataset of the catalogue that waits for it; False if there was none."""
    with store.writes.begin() as session:
        name = datasets.take(session)
    if name is None:
        return False
    log.info("dataset %s: reading", name)
    with _signs_of_life(store, lambda session: datasets.touch(session, name)):
        outcome = prepare(name, root)
    sources = [asdict(source) for source in outcome.sources]
    for source in outcome.sources:
        log.info("dataset %s: %s: %s", name, source.name, source.why or "has it")
    with store.writes.begin() as session:
        if isinstance(outcome, Ready):
            reading = Reading(outcome.statistics)
            waiting = datasets.accept(session, name, outcome.sha256, outcome.schema, sources, reading)
            log.info("dataset %s: ready as %s", name, outcome.sha256)
        else:
            waiting = datasets.reject(session, name, outcome.problem, sources)
            log.warning("dataset %s: rejected. %s", name, outcome.problem)
    if waiting:
        ring()
    return True


def read_next_upload(store: Store, root: Path) -> bool:
    """Read one upload that waits for it; False if there was none."""
    with store.writes.begin() as session:
        claim = uploads.take(session)
    if claim is None:
        return False
    log.info("upload %s of dataset %s: reading", claim.upload_id, claim.dataset_name)
    folder = upload_folder(root, claim.upload_id)
    with _signs_of_life(store, lambda session: uploads.touch(session, claim)):
        outcome = _read(root, folder, claim)
    with store.writes.begin() as session:
        is_final = _store(session, root, claim, outcome)
    if is_final:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def remove_leftovers(store: Store, root: Path) -> bool:
    """Remove folders that no upload waits in: the API was ended while it received them. Always False."""
    for folder in (root / "uploads").glob("????????-*"):
        if _is_old(folder) and not _is_waiting(store, folder.name):
            log.info("upload %s: removed, it was never complete", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
    return False


def remove_deleted(store: Store, root: Path) -> bool:
    """Remove files of deleted datasets where the API was ended before it could. Always False."""
    with store.reads.begin() as session:
        found = removals.with_files(session, root)
    for sha256 in found:
        removals.remove_files(store, root, sha256)
    return False


def _is_old(folder: Path) -> bool:
    try:
        return folder.is_dir() and time.time() - folder.stat().st_mtime > LEFTOVER_SECONDS
    except FileNotFoundError:
        # Another worker, or the request that made it, removed it just now.
        return False


def _is_waiting(store: Store, upload_id: str) -> bool:
    with store.reads.begin() as session:
        return uploads.is_waiting(session, upload_id)


def _read(root: Path, folder: Path, claim: UploadClaim) -> Accepted | Refused | Died:
    if claim.attempt > uploads.MOST_ATTEMPTS:
        return Died("the end of its worker, again and again", would_die_again=True)
    if not folder.is_dir():
        problem = DataProblem(
            code="file_lost", message="The file is no longer there.", expected="a new upload"
        )
        return Refused([problem.model_dump(mode="json")], [])
    return read_files(root, folder, claim.meta, claim.names)


def _store(session: Session, root: Path, claim: UploadClaim, outcome: Accepted | Refused | Died) -> bool:
    """Whether that was the last word about the upload."""
    match outcome:
        case Accepted():
            return _accept(session, root, claim, outcome)
        case Refused(problems=problems):
            log.info("upload %s: rejected, %d problems", claim.upload_id, len(problems))
            return uploads.reject(session, claim, problems, outcome.warnings)
        case Died(how=how):
            log.warning("upload %s: the process that read it ended with %s", claim.upload_id, how)
    if not outcome.would_die_again and claim.attempt < uploads.MOST_ATTEMPTS:
        uploads.give_back(session, claim)
        return False
    problem = DataProblem(
        code="reading_failed",
        message=f"The file could not be read: the process that did so ended with {outcome.how}.",
        expected="a smaller file, or another format",
    )
    return uploads.reject(session, claim, [problem.model_dump(mode="json")])


def _accept(session: Session, root: Path, claim: UploadClaim, read: Accepted) -> bool:
    reading = Reading(read.statistics, read.warnings)
    with session.begin_nested() as storing:
        is_stored = uploads.accept(session, claim, read.sha256, read.schema, reading)
        # The version's row is locked by now. The same content may have been deleted since it was read.
        if dataset_folder(root, read.sha256).is_dir():
            log.info("upload %s: ready as %s", claim.upload_id, read.sha256)
            return is_stored
        storing.rollback()
    uploads.give_back(session, claim)
    return False


@contextmanager
def _signs_of_life(store: Store, touch: Callable[[Session], None]) -> Iterator[None]:
    def say_so() -> bool:
        with store.writes.begin() as session:
            touch(session)
        return False

    sign = Loop("reader's sign of life", say_so, SIGN_SECONDS)
    sign.start()
    try:
        yield
    finally:
        sign.stop()
        # A sign given later would hold back an upload that is given back.
        sign.join(SIGN_SECONDS)

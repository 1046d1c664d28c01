"""Uploads in SQL: received, taken by a reader, accepted as a dataset's version or rejected."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services import answers
from services.catalogue import CATALOGUE
from services.datasets import READER_LEASE_MS, Reading, add_version, row_of
from services.errors import Conflict, KeyReused, NotFound
from services.meta import UploadMeta
from services.models import Dataset, Upload
from services.results import moment
from services.schema import DatasetSchema
from services.states import DatasetState
from services.store import changed_rows, now_ms

# Tries after which a file whose reader keeps dying is rejected.
MOST_ATTEMPTS: Final = 3
Found = Sequence[Mapping[str, Any]]
"""services.answers.DataProblem as JSON."""


@dataclass(frozen=True)
class ReceivedFile:
    """A file that is whole on disk."""

    filename: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Received:
    """The answer to an upload."""

    upload_id: str
    is_new: bool
    """False if the idempotency key named an upload that was there already."""


@dataclass(frozen=True)
class UploadClaim:
    """An upload to be read; `attempt` proves the right to write for it."""

    upload_id: str
    attempt: int
    dataset_name: str
    meta: UploadMeta
    names: dict[str, str]
    """The files' own names by form field."""


def receive(
    session: Session,
    upload_id: str,
    owner_id: str,
    meta: UploadMeta,
    files: Mapping[str, ReceivedFile],
    key: str | None,
) -> Received:
    """Store an upload whose files are on disk.

    Raises Conflict where the name is the catalogue's or somebody else's, KeyReused for a key that came with
    other content.
    """
    document = meta.model_dump(mode="json")
    digest = _digest(document, files)
    if key is not None and (before := _repeated(session, owner_id, key, digest)):
        return before
    values = {
        "id": upload_id,
        "dataset_name": meta.name,
        "owner_id": owner_id,
        "meta": document,
        "files": {field: vars(file) for field, file in files.items()},
        "state": DatasetState.PROCESSING,
        "attempts": 0,
        "touched_at": 0,
        "idempotency_key": key,
        "request_sha256": digest,
        "created_at": now_ms(),
    }
    try:
        with session.begin_nested():
            _own(session, meta, owner_id)
            session.execute(insert(Upload).values(**values))
    except IntegrityError:
        # Another request with this key committed between the look-up and the insert.
        if key is None or (before := _repeated(session, owner_id, key, digest)) is None:
            raise
        return before
    return Received(upload_id, is_new=True)


def _digest(meta: Mapping[str, Any], files: Mapping[str, ReceivedFile]) -> str:
    content = {field: file.sha256 for field, file in files.items()}
    return hashlib.sha256(json.dumps([meta, content], sort_keys=True).encode()).hexdigest()


def _repeated(session: Session, owner_id: str, key: str, digest: str) -> Received | None:
    row = session.scalar(select(Upload).where(Upload.owner_id == owner_id, Upload.idempotency_key == key))
    if row is None:
        return None
    if row.request_sha256 != digest:
        raise KeyReused(key)
    return Received(row.id, is_new=False)


def _own(session: Session, meta: UploadMeta, owner_id: str) -> None:
    """Make the dataset's row, or lock the one that is there; raises Conflict if it is somebody else's."""
    if meta.name in CATALOGUE:
        raise Conflict(
            f"The name {meta.name} belongs to a dataset that comes with the service. Choose another."
        )
    row = _locked(session, meta.name)
    if row is None and _add(session, meta, owner_id):
        return
    row = row or _locked(session, meta.name)
    if row is not None and row.deleted_at is not None:
        row.deleted_at, row.owner_id, row.description = None, owner_id, meta.description
        row.state = DatasetState.PROCESSING
    if row is None or row.owner_id != owner_id:
        raise Conflict(f"A dataset {meta.name} was uploaded by somebody else. Choose another name.")
    if row.state is DatasetState.REJECTED:
        row.state = DatasetState.PROCESSING
        row.problem = row.problems = None
    session.flush()


def _locked(session: Session, name: str) -> Dataset | None:
    return session.get(Dataset, name, populate_existing=True, with_for_update=True)


def _add(session: Session, meta: UploadMeta, owner_id: str) -> bool:
    try:
        with session.begin_nested():
            session.execute(
                insert(Dataset).values(
                    name=meta.name,
                    state=DatasetState.PROCESSING,
                    description=meta.description,
                    owner_id=owner_id,
                    updated_at=now_ms(),
                )
            )
    except IntegrityError:
        return False
    return True


def take(session: Session) -> UploadClaim | None:
    """Claim the oldest upload that waits, or whose reader died; None if there is none."""
    row = session.scalar(
        select(Upload)
        .where(
            Upload.state == DatasetState.PROCESSING,
            or_(Upload.touched_at == 0, Upload.touched_at < now_ms() - READER_LEASE_MS),
        )
        .order_by(Upload.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    row.attempts += 1
    session.flush()
    names = {field: file["filename"] for field, file in row.files.items()}
    claim = UploadClaim(row.id, row.attempts, row.dataset_name, UploadMeta.model_validate(row.meta), names)
    touch(session, claim)
    return claim


def is_waiting(session: Session, upload_id: str) -> bool:
    """Whether its files are still to be read."""
    row = session.get(Upload, upload_id)
    return row is not None and row.state is DatasetState.PROCESSING


def touch(session: Session, claim: UploadClaim) -> None:
    """Sign of life of the reader."""
    session.execute(update(Upload).where(*_still(claim)).values(touched_at=now_ms()))


def give_back(session: Session, claim: UploadClaim) -> None:
    """Let it be taken again at once: its reader died."""
    session.execute(update(Upload).where(*_still(claim)).values(touched_at=0))


def accept(
    session: Session,
    claim: UploadClaim,
    sha256: str,
    schema: DatasetSchema,
    reading: Reading,
) -> bool:
    """The version is stored and is the dataset's newest; False if the claim was no longer valid."""
    dataset = _locked(session, claim.dataset_name)
    add_version(session, claim.dataset_name, sha256, schema, reading)
    values = {"state": DatasetState.READY, "version": sha256, "warnings": {"found": list(reading.warnings)}}
    if dataset is None or not _end(session, claim, values):
        return False
    newest: dict[str, Any] = {"version": sha256, "description": claim.meta.description}
    session.execute(
        update(Dataset)
        .where(Dataset.name == claim.dataset_name)
        .values(
            state=DatasetState.READY,
            problem=None,
            problems=None,
            updated_at=now_ms(),
            # Two readers may finish in another order than the files came in.
            **({} if _has_newer(session, claim) else newest),
        )
    )
    return True


def reject(session: Session, claim: UploadClaim, problems: Found, warnings: Found = ()) -> bool:
    """The files cannot be a version; a dataset that has one stays ready. False as in `accept`."""
    dataset = _locked(session, claim.dataset_name)
    found = {"found": list(problems)}
    values = {"state": DatasetState.REJECTED, "problems": found, "warnings": {"found": list(warnings)}}
    if dataset is None or not _end(session, claim, values):
        return False
    if dataset.version is None and not _waits(session, claim):
        dataset.state = DatasetState.REJECTED
        dataset.problem = _sentence(problems)
        dataset.problems = found
    return True


def _sentence(problems: Found) -> str:
    more = len(problems) - 1
    return str(problems[0]["message"]) + (f" And {more} more." if more > 0 else "")


def _still(claim: UploadClaim) -> tuple[ColumnElement[bool], ...]:
    return (
        Upload.id == claim.upload_id,
        Upload.state == DatasetState.PROCESSING,
        Upload.attempts == claim.attempt,
    )


def _end(session: Session, claim: UploadClaim, values: Mapping[str, Any]) -> bool:
    statement = update(Upload).where(*_still(claim)).values(**values, finished_at=now_ms())
    return changed_rows(session, statement) == 1


def _has_newer(session: Session, claim: UploadClaim) -> bool:
    newer = (
        Upload.dataset_name == claim.dataset_name,
        Upload.state == DatasetState.READY,
        Upload.id > claim.upload_id,
    )
    return bool(session.scalar(select(exists().where(*newer))))


def _waits(session: Session, claim: UploadClaim) -> bool:
    waiting = (Upload.dataset_name == claim.dataset_name, Upload.state == DatasetState.PROCESSING)
    return bool(session.scalar(select(exists().where(*waiting))))


def show(session: Session, name: str, upload_id: str) -> answers.Upload:
    """One upload of a dataset; raises NotFound."""
    row = session.get(Upload, upload_id)
    if row is None or row.dataset_name != name:
        raise NotFound("upload", f"{name}/{upload_id}")
    return _answer(row)


def every(session: Session, name: str) -> list[answers.Upload]:
    """All uploads of a dataset, newest first; raises NotFound."""
    if name not in CATALOGUE and row_of(session, name) is None:
        raise NotFound("dataset", name)
    rows = session.scalars(select(Upload).where(Upload.dataset_name == name).order_by(Upload.id.desc()))
    return [_answer(row) for row in rows]


def _answer(row: Upload) -> answers.Upload:
    file = row.files["file"]
    base = f"/v1/datasets/{row.dataset_name}"
    links = {"self": f"{base}/uploads/{row.id}", "dataset": base}
    if row.version is not None:
        links["version"] = f"{base}/versions/{row.version}"
    return answers.Upload(
        id=row.id,
        dataset=row.dataset_name,
        state=row.state,
        version=row.version,
        filename=file["filename"],
        bytes=file["bytes"],
        sha256=file["sha256"],
        meta=row.meta,
        problems=(row.problems or {}).get("found", []),
        warnings=(row.warnings or {}).get("found", []),
        created_at=moment(row.created_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        links=links,
    )

"""Datasets that people delete: what stands against it, what stays for jobs, and which files go.

Rows of datasets and versions stay where jobs name them, marked as deleted; figures and examples go at once.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from services.artifacts import dataset_folder
from services.catalogue import CATALOGUE
from services.datasets import find, is_of
from services.errors import Conflict, NotFound
from services.models import Dataset, DatasetVersion, Evaluation, Job, Prediction, Upload
from services.states import TERMINAL_STATES, DatasetState, EvaluationState
from services.store import Store, now_ms

MOST_NAMED = 10
UNDER_WAY = (EvaluationState.QUEUED, EvaluationState.RUNNING)


class DataInUse(Conflict):
    """Jobs need what is to be deleted; `jobs` are their ids."""

    def __init__(self, what: str, jobs: Sequence[str]) -> None:
        self.jobs = list(jobs)
        many = len(jobs) > 1
        more = f" and {len(jobs) - MOST_NAMED} more" if len(jobs) > MOST_NAMED else ""
        super().__init__(
            f"{what} is in use by job{'s' * many} {', '.join(jobs[:MOST_NAMED])}{more}. "
            f"Cancel {'them' if many else 'it'}, or wait for the end, then delete it."
        )


def delete(session: Session, name: str, owner_id: str) -> list[str]:
    """Delete a dataset with all its versions. Returns those whose files are to go after the commit.

    Raises NotFound; Conflict for a dataset of the catalogue or of somebody else, and while a file of it is
    read; DataInUse.
    """
    dataset = _owned(session, name, owner_id)
    reading = (Upload.dataset_name == name, Upload.state == DatasetState.PROCESSING)
    if session.scalar(select(exists().where(*reading))):
        raise Conflict(f"A file of dataset {name} is being read. Delete the dataset once that has ended.")
    doomed = _drop(session, name, _versions(session, name), f"Dataset {name}")
    session.execute(sql_delete(Upload).where(Upload.dataset_name == name))
    dataset.version = dataset.problem = dataset.problems = None
    dataset.description = ""
    dataset.deleted_at = _now(session)
    return doomed


def delete_version(session: Session, name: str, version: str, owner_id: str) -> list[str]:
    """As `delete`, for one of several versions, named by its first digits."""
    dataset = _owned(session, name, owner_id)
    sha256 = find(session, name, version).version or ""
    rows = _versions(session, name)
    if len(rows) == 1:
        raise Conflict(
            f"Dataset {name} has no other version. Delete the dataset: DELETE /v1/datasets/{name}."
        )
    what = f"Version {sha256[:8]} of dataset {name}"
    doomed = _drop(session, name, [row for row in rows if row.sha256 == sha256], what)
    session.execute(sql_delete(Upload).where(Upload.dataset_name == name, Upload.version == sha256))
    newest = select(Upload).where(Upload.dataset_name == name, Upload.version.is_not(None))
    left = session.scalars(newest.order_by(Upload.id.desc()).limit(1)).one()
    dataset.version, dataset.description = left.version, left.meta["description"]
    return doomed


def _owned(session: Session, name: str, owner_id: str) -> Dataset:
    """The dataset's row, locked."""
    if name in CATALOGUE:
        raise Conflict(f"Dataset {name} comes with the service and cannot be deleted.")
    row = session.get(Dataset, name, populate_existing=True, with_for_update=True)
    if row is None or row.deleted_at is not None:
        raise NotFound("dataset", name)
    if row.owner_id != owner_id:
        raise Conflict(f"Dataset {name} was uploaded by somebody else, who alone can delete it.")
    return row


def _versions(session: Session, name: str) -> Sequence[DatasetVersion]:
    """Locked: no job, evaluation or upload takes one up before the caller commits."""
    query = select(DatasetVersion).where(is_of(name)).order_by(DatasetVersion.sha256)
    return session.scalars(query.with_for_update()).all()


def _drop(session: Session, name: str, rows: Sequence[DatasetVersion], what: str) -> list[str]:
    """Take versions from a dataset; returns those that no other dataset has, and marks them as deleted."""
    others = {row.sha256: _other_dataset(session, name, row) for row in rows}
    doomed = [sha256 for sha256, other in others.items() if other is None]
    if users := session.scalars(_users(name, list(others), doomed)).all():
        raise DataInUse(what, users)
    now = _now(session)
    for row in rows:
        if (other := others[row.sha256]) is not None:
            row.name = other
        else:
            row.deleted_at, row.statistics, row.warnings = now, None, None
    return doomed


def _other_dataset(session: Session, name: str, row: DatasetVersion) -> str | None:
    """Another dataset with the same content; None if there is none."""
    if row.name in CATALOGUE:
        return row.name
    # A dataset that is deleted has no uploads.
    shared = (Upload.version == row.sha256, Upload.dataset_name != name)
    return session.scalar(select(Upload.dataset_name).where(*shared).limit(1))


def _users(name: str, versions: Sequence[str], doomed: Sequence[str]) -> Select[str]:
    """Jobs that have not ended, or whose data is being read for somebody."""
    is_its = or_(
        and_(Job.dataset_name == name, Job.dataset_version.in_(versions)), Job.dataset_version.in_(doomed)
    )
    is_busy = or_(
        Job.state.not_in(TERMINAL_STATES),
        _is_asked(Evaluation),
        _is_asked(Prediction, Prediction.split.is_not(None)),
    )
    return select(Job.id).where(is_its, is_busy).order_by(Job.id)


def _is_asked(table: type[Evaluation] | type[Prediction], *more: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(table.job_id == Job.id, table.state.in_(UNDER_WAY), *more)


def _now(session: Session) -> int:
    return session.scalar(select(now_ms())) or 0


def remove_files(store: Store, root: Path, sha256: str) -> None:
    """Remove the files of a deleted version; nothing happens if it is there again, or is not known."""
    aside = dataset_folder(root, f".deleted-{sha256}")
    with store.writes.begin() as session:
        # Locked: whoever stores the same content at this moment finds the files whole, or not at all.
        query = select(DatasetVersion).where(DatasetVersion.sha256 == sha256).with_for_update()
        row = session.scalar(query)
        if row is None or row.deleted_at is None:
            return
        if (folder := dataset_folder(root, sha256)).exists():
            folder.rename(aside)
        if not session.scalar(select(exists().where(Job.dataset_version == sha256))):
            session.delete(row)
    shutil.rmtree(aside, ignore_errors=True)


def with_files(session: Session, root: Path) -> list[str]:
    """Deleted versions whose files are still there: the process that deleted them was ended."""
    deleted = session.scalars(select(DatasetVersion.sha256).where(DatasetVersion.deleted_at.is_not(None)))
    return [sha256 for sha256 in deleted if dataset_folder(root, sha256).exists()]

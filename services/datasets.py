"""Datasets: which are known, which version a job gets, and the hand-over from the process that reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services import answers
from services.catalogue import BUNDLED, CATALOGUE
from services.errors import NotFound
from services.events import record
from services.models import Dataset, DatasetVersion, Job, Owner
from services.schema import DatasetSchema
from services.states import DatasetState, JobState, Reason
from services.store import changed_rows, now_ms

# A reader that gave no sign of life for so long is taken for dead.
READER_LEASE_MS = 60_000
# Digits of a version that are enough to name it, if no other begins with them.
SHORTEST_VERSION = 8


# As services.answers.SourceAsked has them.
Sources = Sequence[Mapping[str, str | None]]


@dataclass(frozen=True)
class Known:
    """What a spec is checked against: the dataset's schema, and its version where one is ready."""

    name: str
    schema: DatasetSchema
    version: str | None


def find(session: Session, name: str, version: str | None = None) -> Known:
    """The dataset of this name, at its newest version or the one asked for (its first digits are enough).

    Raises NotFound for a name or a version that does not exist.
    """
    if version is not None:
        return _find_version(session, name, version)
    dataset = session.get(Dataset, name)
    if dataset is not None and dataset.version is not None:
        stored = session.get_one(DatasetVersion, dataset.version)
        return Known(name, DatasetSchema.model_validate(stored.schema), stored.sha256)
    if name not in CATALOGUE:
        raise NotFound("dataset", name)
    return Known(name, CATALOGUE[name].schema, None)


def _find_version(session: Session, name: str, version: str) -> Known:
    found = session.scalars(
        select(DatasetVersion)
        .where(DatasetVersion.name == name, DatasetVersion.sha256.startswith(version, autoescape=True))
        .limit(2)
    ).all()
    if len(found) != 1 or len(version) < SHORTEST_VERSION:
        raise NotFound("dataset version", f"{name}@{version}")
    return Known(name, DatasetSchema.model_validate(found[0].schema), found[0].sha256)


def names(session: Session) -> list[str]:
    """All names that a spec may use, sorted."""
    return sorted({*CATALOGUE, *session.scalars(select(Dataset.name))})


def describe(session: Session, name: str) -> answers.Dataset:
    """A dataset at its newest version; raises NotFound."""
    known = find(session, name)
    row = session.get(Dataset, name)
    return answers.Dataset(
        name=name,
        state=DatasetState.AVAILABLE if row is None else row.state,
        version=known.version,
        description=CATALOGUE[name].description if row is None else row.description,
        schema=known.schema,
        owner=None if row is None else _owner_name(session, row.owner_id),
        statistics=None,
        warnings=[],
        problem=None if row is None else row.problem,
        problems=[],
        sources=[] if row is None or row.sources is None else row.sources["asked"],
    )


def _owner_name(session: Session, owner_id: str | None) -> str | None:
    return None if owner_id is None else session.get_one(Owner, owner_id).name


def describe_version(session: Session, name: str, version: str) -> answers.Dataset:
    """A dataset at one of its versions; raises NotFound."""
    known = _find_version(session, name, version)
    newest = describe(session, name)
    return newest.model_copy(
        update={
            "version": known.version,
            "schema_": known.schema,
            "state": DatasetState.READY,
            "problem": None,
        }
    )


def want(session: Session, name: str) -> str | None:
    """Ask for a catalogue dataset to be read; one that is ready or being read stays so. Returns its version.

    The dataset's row stays locked until the caller commits: `accept` and `reject` will see the caller's job.
    """
    row = _locked(session, name) or _add(session, name)
    if row is not None and row.state in {DatasetState.AVAILABLE, DatasetState.REJECTED}:
        session.execute(
            update(Dataset)
            .where(Dataset.name == name)
            .values(state=DatasetState.PROCESSING, problem=None, updated_at=0)
        )
    return None if row is None else row.version


def _locked(session: Session, name: str) -> Dataset | None:
    return session.get(Dataset, name, populate_existing=True, with_for_update=True)


def _add(session: Session, name: str) -> Dataset | None:
    """Insert the row; returns the one that is there if somebody else was first."""
    try:
        with session.begin_nested():
            session.execute(
                insert(Dataset).values(
                    name=name,
                    state=DatasetState.PROCESSING,
                    description=CATALOGUE[name].description,
                    updated_at=0,
                )
            )
    except IntegrityError:
        return _locked(session, name)
    return None


def want_bundled(session: Session) -> None:
    """Ask for the datasets that need no download, so that first jobs on them start at once."""
    for name in sorted(BUNDLED):
        want(session, name)


def take(session: Session) -> str | None:
    """Claim one dataset that waits to be read, or whose reader died; returns its name."""
    name = session.scalar(
        select(Dataset.name)
        .where(
            Dataset.state == DatasetState.PROCESSING,
            or_(Dataset.updated_at == 0, Dataset.updated_at < now_ms() - READER_LEASE_MS),
        )
        .order_by(Dataset.name)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if name is not None:
        touch(session, name)
    return name


def touch(session: Session, name: str) -> None:
    """Sign of life of the reader."""
    session.execute(
        update(Dataset)
        .where(Dataset.name == name, Dataset.state == DatasetState.PROCESSING)
        .values(updated_at=now_ms())
    )


def accept(session: Session, name: str, sha256: str, schema: DatasetSchema, sources: Sources = ()) -> int:
    """The dataset is ready: its version is stored, and waiting jobs get it. Returns how many waited."""
    if session.get(DatasetVersion, sha256) is None:
        session.execute(
            insert(DatasetVersion).values(
                sha256=sha256, name=name, schema=schema.model_dump(mode="json"), created_at=now_ms()
            )
        )
    session.execute(
        update(Dataset)
        .where(Dataset.name == name)
        .values(
            state=DatasetState.READY,
            version=sha256,
            problem=None,
            sources={"asked": list(sources)},
            updated_at=now_ms(),
        )
    )
    return changed_rows(
        session,
        update(Job)
        .where(Job.dataset_name == name, Job.state == JobState.QUEUED, Job.dataset_version.is_(None))
        .values(dataset_version=sha256, revision=Job.revision + 1),
    )


def reject(session: Session, name: str, problem: str, sources: Sources = ()) -> int:
    """The dataset cannot be had: jobs that wait for it fail with `bad_data`. Returns how many."""
    session.execute(
        update(Dataset)
        .where(Dataset.name == name)
        .values(
            state=DatasetState.REJECTED,
            problem=problem,
            sources={"asked": list(sources)},
            updated_at=now_ms(),
        )
    )
    waiting = select(Job.id).where(
        Job.dataset_name == name, Job.state == JobState.QUEUED, Job.dataset_version.is_(None)
    )
    failed = session.scalars(
        update(Job)
        .where(Job.id.in_(waiting))
        .values(
            state=JobState.FAILED,
            reason=Reason.BAD_DATA,
            detail=f"The dataset {name} could not be read. {problem}",
            finished_at=now_ms(),
            revision=Job.revision + 1,
        )
        .returning(Job.id)
    ).all()
    for job_id in failed:
        record(session, job_id, "state", {"state": JobState.FAILED, "reason": Reason.BAD_DATA})
    return len(failed)

"""Datasets: which are known, which version a job gets, and the hand-over from the process that reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services import answers
from services.catalogue import BUNDLED, CATALOGUE
from services.errors import Conflict, NotFound
from services.events import record
from services.models import Dataset, DatasetVersion, Job, Owner, Upload
from services.results import moment
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
class Reading:
    """What was learned of a version when it was read, as JSON of services.answers."""

    statistics: Mapping[str, Any] | None = None
    warnings: Sequence[Mapping[str, Any]] = ()


class DataDeleted(Conflict):
    """A job's data was deleted: its results are there, what needs the data is not to be had."""

    def __init__(self, name: str, version: str) -> None:
        short = version[:SHORTEST_VERSION]
        super().__init__(
            f"This needs the data, and version {short} of dataset {name} was deleted. "
            "The same file, uploaded again with the same meta, brings it back."
        )


class NotReady(Conflict):
    """An uploaded dataset has no version that a job could use."""

    def __init__(self, name: str, state: DatasetState, problem: str | None) -> None:
        self.code = f"dataset_{'rejected' if state is DatasetState.REJECTED else 'not_ready'}"
        look = f"/v1/datasets/{name} says more."
        super().__init__(
            f"The file of dataset {name} was rejected. {problem or ''} {look}".replace("  ", " ")
            if state is DatasetState.REJECTED
            else f"The file of dataset {name} is still being read. {look}"
        )


@dataclass(frozen=True)
class Known:
    """What a spec is checked against: the dataset's schema, and its version where one is ready."""

    name: str
    schema: DatasetSchema
    version: str | None


def find(session: Session, name: str, version: str | None = None) -> Known:
    """The dataset of this name, at its newest version or the one asked for (its first digits are enough).

    Raises NotFound for a name or a version that does not exist, NotReady for an upload without any.
    """
    if version is not None:
        return _find_version(session, name, version)
    dataset = row_of(session, name)
    if dataset is not None and dataset.version is not None:
        return _known(name, session.get_one(DatasetVersion, dataset.version))
    if name in CATALOGUE:
        return Known(name, CATALOGUE[name].schema, None)
    if dataset is None:
        raise NotFound("dataset", name)
    raise NotReady(name, dataset.state, dataset.problem)


def of_job(session: Session, job: Job) -> Known:
    """The dataset that a job uses, at the job's version, whether it was deleted since or not."""
    if job.dataset_version is None:
        return find(session, job.dataset_name)
    return _known(job.dataset_name, session.get_one(DatasetVersion, job.dataset_version))


def hold(session: Session, name: str, version: str) -> None:
    """Keep a version from being deleted before the transaction ends; raises DataDeleted if it was already."""
    # The dataset's row first, as whoever deletes it does.
    there = select(DatasetVersion.sha256).where(
        DatasetVersion.sha256 == version, DatasetVersion.deleted_at.is_(None)
    )
    dataset = select(Dataset.name).where(Dataset.name == name)
    session.execute(dataset.with_for_update(read=True, key_share=True))
    if session.scalar(there.with_for_update(read=True, key_share=True)) is None:
        raise DataDeleted(name, version)


def row_of(session: Session, name: str) -> Dataset | None:
    """The dataset's row; None if there is none, or it was deleted."""
    row = session.get(Dataset, name)
    return None if row is None or row.deleted_at is not None else row


def _known(name: str, stored: DatasetVersion) -> Known:
    # The same content under another name is the same version.
    schema = DatasetSchema.model_validate(stored.schema).model_copy(update={"name": name})
    return Known(name, schema, stored.sha256)


def _find_version(session: Session, name: str, version: str) -> Known:
    found = session.scalars(
        select(DatasetVersion)
        .where(is_of(name), DatasetVersion.sha256.startswith(version, autoescape=True))
        .limit(2)
    ).all()
    if len(found) != 1 or len(version) < SHORTEST_VERSION:
        raise NotFound("dataset version", f"{name}@{version}")
    return _known(name, found[0])


def is_of(name: str) -> ColumnElement[bool]:
    """Whether a version is one of this dataset, also where it was stored under another name first."""
    uploaded = select(Upload.version).where(Upload.dataset_name == name, Upload.version.is_not(None))
    is_named = or_(DatasetVersion.name == name, DatasetVersion.sha256.in_(uploaded))
    return and_(is_named, DatasetVersion.deleted_at.is_(None))


def versions(session: Session, name: str) -> list[answers.Version]:
    """All versions of a dataset, newest first; raises NotFound."""
    if name not in CATALOGUE and row_of(session, name) is None:
        raise NotFound("dataset", name)
    found = session.scalars(
        select(DatasetVersion)
        .where(is_of(name))
        .order_by(DatasetVersion.created_at.desc(), DatasetVersion.sha256)
    )
    return [
        answers.Version(
            version=row.sha256,
            created_at=moment(row.created_at),
            rows=DatasetSchema.model_validate(row.schema).rows,
        )
        for row in found
    ]


def names(session: Session) -> list[str]:
    """All names that are known, sorted."""
    there = select(Dataset.name).where(Dataset.deleted_at.is_(None))
    return sorted({*CATALOGUE, *session.scalars(there)})


def usable_names(session: Session) -> list[str]:
    """All names that a spec may use, sorted: not those of uploads that never became ready."""
    ready = select(Dataset.name).where(Dataset.version.is_not(None))
    return sorted({*CATALOGUE, *session.scalars(ready)})


def describe(session: Session, name: str, *, in_full: bool = True) -> answers.Dataset:
    """A dataset at its newest version, with its statistics if it is told `in_full`; raises NotFound."""
    row = row_of(session, name)
    if row is None:
        return _available(name)
    stored = None if row.version is None else session.get_one(DatasetVersion, row.version)
    expected = CATALOGUE[name].schema if name in CATALOGUE else None
    return answers.Dataset(
        name=name,
        state=row.state,
        version=row.version,
        description=row.description,
        schema=expected if stored is None else _known(name, stored).schema,
        owner=None if row.owner_id is None else session.get_one(Owner, row.owner_id).name,
        problem=row.problem,
        problems=_found(row.problems),
        sources=[] if row.sources is None else row.sources["asked"],
        **_facts(stored, in_full=in_full),
    )


def _available(name: str) -> answers.Dataset:
    if name not in CATALOGUE:
        raise NotFound("dataset", name)
    return answers.Dataset(
        name=name,
        state=DatasetState.AVAILABLE,
        version=None,
        description=CATALOGUE[name].description,
        schema=CATALOGUE[name].schema,
        owner=None,
        problem=None,
        problems=[],
        sources=[],
        **_facts(None, in_full=False),
    )


def _facts(stored: DatasetVersion | None, *, in_full: bool) -> dict[str, Any]:
    if stored is None:
        return {"statistics": None, "warnings": []}
    statistics = stored.statistics if in_full else None
    return {
        "statistics": None if statistics is None else answers.DatasetStatistics.model_validate(statistics),
        "warnings": _found(stored.warnings),
    }


def _found(document: Mapping[str, Any] | None) -> list[answers.DataProblem]:
    return [answers.DataProblem.model_validate(item) for item in (document or {}).get("found", [])]


def describe_version(session: Session, name: str, version: str) -> answers.Dataset:
    """A dataset at one of its versions; raises NotFound."""
    known = _find_version(session, name, version)
    newest = describe(session, name, in_full=False)
    return newest.model_copy(
        update={
            "version": known.version,
            "schema_": known.schema,
            "state": DatasetState.READY,
            "problem": None,
            "problems": [],
            **_facts(session.get_one(DatasetVersion, known.version), in_full=True),
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
    """Claim one dataset of the catalogue that waits to be read, or whose reader died; returns its name."""
    name = session.scalar(
        select(Dataset.name)
        .where(
            Dataset.state == DatasetState.PROCESSING,
            # What people upload is read from their files.
            Dataset.owner_id.is_(None),
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


def add_version(session: Session, name: str, sha256: str, schema: DatasetSchema, reading: Reading) -> None:
    """Store a version's row, unless there is one; one of before statistics were kept gets them.

    One that was deleted is there again. Until the commit nobody deletes it.
    """
    row = session.get(DatasetVersion, sha256, populate_existing=True, with_for_update={"key_share": True})
    if row is None:
        _insert_version(session, name, sha256, schema, reading)
        return
    if row.deleted_at is not None:
        row.name, row.deleted_at = name, None
        row.warnings = {"found": list(reading.warnings)}
    if row.statistics is None and reading.statistics is not None:
        row.statistics = dict(reading.statistics)


def _insert_version(
    session: Session, name: str, sha256: str, schema: DatasetSchema, reading: Reading
) -> None:
    values = {
        "sha256": sha256,
        "name": name,
        "schema": schema.model_dump(mode="json"),
        "statistics": reading.statistics,
        "warnings": {"found": list(reading.warnings)},
        "created_at": now_ms(),
    }
    try:
        with session.begin_nested():
            session.execute(insert(DatasetVersion).values(**values))
    except IntegrityError:
        # Another reader stored the same content first.
        return


def accept(
    session: Session,
    name: str,
    sha256: str,
    schema: DatasetSchema,
    sources: Sources = (),
    reading: Reading = Reading(),
) -> int:
    """The dataset is ready: its version is stored, and waiting jobs get it. Returns how many waited."""
    add_version(session, name, sha256, schema, reading)
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

"""The tables. Times are milliseconds since the Unix epoch by the database's clock, names end in `_at`."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey, Index, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.states import DatasetState, EvaluationState, JobState, Reason, Relation, Split
from services.store import now_ms

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Millis = Annotated[int, mapped_column(BigInteger)]
Sha256 = Annotated[str, mapped_column(String(64))]
Id = Annotated[str, mapped_column(String(36))]
Document = dict[str, Any]


def _enum(kind: type[StrEnum], name: str, *, is_checked: bool = True) -> Enum:
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=is_checked,
        length=20,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        Document: JSON(none_as_null=True),
        str: Text,
        JobState: _enum(JobState, "state"),
        EvaluationState: _enum(EvaluationState, "state"),
        DatasetState: _enum(DatasetState, "state"),
        Reason: _enum(Reason, "reason"),
        Split: _enum(Split, "split"),
        # SQLite cannot add a constraint to a table that is there.
        Relation: _enum(Relation, "relation", is_checked=False),
    }


class Owner(Base):
    """A person of the team."""

    __tablename__ = "owners"

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text."""
    name: Mapped[str] = mapped_column(unique=True)
    """What the others call this person."""
    created_at: Mapped[Millis]
    """When the person was added."""


class ApiKey(Base):
    """A secret that lets its owner in. The secret itself is not stored."""

    __tablename__ = "api_keys"

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text."""
    owner_id: Mapped[Id] = mapped_column(ForeignKey("owners.id"), index=True)
    """Whose key it is."""
    sha256: Mapped[Sha256] = mapped_column(unique=True)
    """SHA-256 of the whole key; the key has 256 random bits, so that a slow hash would add nothing."""
    hint: Mapped[str] = mapped_column(String(12))
    """First characters of the key, to tell keys apart."""
    created_at: Mapped[Millis]
    """When it was made."""
    revoked_at: Mapped[Millis | None]
    """When it stopped being valid; null while it is."""


class Dataset(Base):
    """Named data."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    """What specs call it."""
    state: Mapped[DatasetState]
    """Whether its newest version can be used."""
    description: Mapped[str]
    """One sentence for people."""
    version: Mapped[Sha256 | None] = mapped_column(ForeignKey("dataset_versions.sha256"))
    """The newest version; null until there is one."""
    problem: Mapped[str | None]
    """Why it was rejected, naming each source that failed."""
    problems: Mapped[Document | None]
    """What is wrong with the file of a rejected upload: services.answers.DataProblem under `found`."""
    owner_id: Mapped[Id | None]
    """Who uploaded it first, and alone may upload newer versions; null for the catalogue's datasets."""
    sources: Mapped[Document | None]
    """Sources asked last, in order, under `asked`: the name of each, and why it failed if it did."""
    updated_at: Mapped[Millis]
    """When the state last changed, or the child that reads it last gave a sign of life."""
    deleted_at: Mapped[Millis | None]
    """When its owner deleted it; the row stays for the jobs that name it, and the name is free."""


class DatasetVersion(Base):
    """One content of a dataset; never changes, but may be deleted and come again."""

    __tablename__ = "dataset_versions"

    sha256: Mapped[Sha256] = mapped_column(primary_key=True)
    """SHA-256 of the content; also the name of its folder below the artifact root."""
    name: Mapped[str] = mapped_column(String(64), index=True)
    """The dataset it is a version of."""
    schema: Mapped[Document]
    """services.schema.DatasetSchema as JSON."""
    statistics: Mapped[Document | None]
    """services.answers.DatasetStatistics of the unsealed rows; null for versions of before it was kept."""
    warnings: Mapped[Document | None]
    """What a person should know of it: services.answers.DataProblem under `found`."""
    created_at: Mapped[Millis]
    """When it was stored."""
    deleted_at: Mapped[Millis | None]
    """When the last dataset that had it lost it: its files are gone, its schema stays for jobs."""


class Upload(Base):
    """A file that a person sent to become a version of a dataset."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index("ix_uploads_owner_id_idempotency_key", "owner_id", "idempotency_key", unique=True),
        Index("ix_uploads_state_touched_at", "state", "touched_at"),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text; also the name of its folder below the artifact root's `uploads`."""
    dataset_name: Mapped[str] = mapped_column(String(64), ForeignKey("datasets.name"), index=True)
    """The dataset it is to be a version of."""
    owner_id: Mapped[Id] = mapped_column(ForeignKey("owners.id"))
    """Who sent it."""
    meta: Mapped[Document]
    """services.meta.UploadMeta as JSON, every default written out."""
    files: Mapped[Document]
    """By form field (`file`, `targets`): the file's own name, bytes and SHA-256."""
    state: Mapped[DatasetState]
    """`processing`, `ready` or `rejected`."""
    version: Mapped[Sha256 | None] = mapped_column(ForeignKey("dataset_versions.sha256"))
    """What came of it."""
    problems: Mapped[Document | None]
    """Why it was rejected: services.answers.DataProblem under `found`."""
    warnings: Mapped[Document | None]
    """What was noticed and did not stop it; as `problems`."""
    attempts: Mapped[int]
    """Tries at reading it."""
    touched_at: Mapped[Millis]
    """Last sign of life of the process that reads it; 0 while nobody does."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    """What the client sent, so that a repeated request finds this upload."""
    request_sha256: Mapped[Sha256]
    """Digest of meta and files: a key that comes with another request is refused."""
    created_at: Mapped[Millis]
    """When it was whole on disk."""
    finished_at: Mapped[Millis | None]
    """When it became ready or rejected."""


class Job(Base):
    """One accepted spec. `fence` proves the right to write for it; terminal states never change."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_state_run_after_at", "state", "run_after_at"),
        Index("ix_jobs_mlflow_synced_at", "mlflow_synced_at"),
        Index("ix_jobs_changed_at", "changed_at"),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text: sorts by time of submit."""
    owner_id: Mapped[Id] = mapped_column(ForeignKey("owners.id"), index=True)
    """Who submitted it."""
    name: Mapped[str]
    """The spec's name."""
    state: Mapped[JobState]
    """Where it stands."""
    reason: Mapped[Reason | None]
    """Why it stands there; null for a job that was never claimed."""
    detail: Mapped[str | None]
    """One sentence about the reason, for the person who asked."""
    spec: Mapped[Document]
    """The resolved TrainSpec as JSON."""
    spec_sha256: Mapped[Sha256]
    """SHA-256 of the resolved spec's canonical JSON."""
    labels: Mapped[Document]
    """The spec's labels, for filters."""
    dataset_name: Mapped[str] = mapped_column(ForeignKey("datasets.name"), index=True)
    """The dataset it uses."""
    dataset_version: Mapped[Sha256 | None] = mapped_column(ForeignKey("dataset_versions.sha256"))
    """The version it uses; null while the dataset is not ready, and then the job is not claimed."""
    params_count: Mapped[int] = mapped_column(BigInteger)
    """Number of the model's parameters, by arithmetic."""
    epochs: Mapped[int]
    """Epochs asked for."""
    epochs_done: Mapped[int]
    """Epochs in the history."""
    epochs_covered: Mapped[int]
    """Epochs that a checkpoint covers; only these are exported and survive a crash."""
    epoch_fraction: Mapped[float]
    """Part of the epoch under way that is done, 0 to 1."""
    best: Mapped[Document | None]
    """Best epoch so far: epoch, metric, value."""
    parent_id: Mapped[Id | None] = mapped_column(index=True)
    """The job that this one was made from; it may have been deleted since."""
    relation: Mapped[Relation | None]
    """How it was made from its parent."""
    epochs_inherited: Mapped[int]
    """Epochs at the history's beginning that the parent trained; copied, so that this job stands alone."""
    priority: Mapped[int]
    """Which of its owner's queued jobs starts first: the highest. Between people it has no weight."""
    note: Mapped[str | None]
    """What a person wrote about it."""
    target_scaling: Mapped[Document | None]
    """`offset` and `scale`, a list each: prediction = output x scale + offset; null: outputs as they are."""
    changed_at: Mapped[Millis] = mapped_column(onupdate=now_ms())
    """When the row last changed, by whatever statement."""
    revision: Mapped[int]
    """Counts the changes that a reader can see; the ETag."""
    fence: Mapped[int]
    """Rises by one with each claim; a write that names an older one changes nothing."""
    lease_until: Mapped[Millis | None]
    """Until when the claim holds without a heartbeat; null unless running."""
    attempts: Mapped[int]
    """Attempts begun."""
    run_after_at: Mapped[Millis]
    """Not to be claimed before this time."""
    cancel_requested_at: Mapped[Millis | None]
    """When somebody asked for its end."""
    created_at: Mapped[Millis]
    """When it was accepted."""
    started_at: Mapped[Millis | None]
    """First claim."""
    finished_at: Mapped[Millis | None]
    """When it became terminal."""
    engine: Mapped[str | None]
    """Which engine trains it, as the trainer named it; of the last attempt."""
    engine_why: Mapped[str | None]
    """Why that one, in words for people."""
    startup: Mapped[Document]
    """Seconds by name from the last attempt's claim until its first epoch was stored."""
    timings: Mapped[Document]
    """Seconds of each step of the last attempt, as the trainer measured them."""
    environment: Mapped[Document]
    """Versions, device and threads of the last attempt, as the trainer saw them."""
    model_sha256: Mapped[Sha256 | None]
    """SHA-256 of model.keras; null until the job succeeded."""
    mlflow_run_id: Mapped[str | None] = mapped_column(String(32))
    """MLflow's run; null until the exporter found or made it."""
    mlflow_experiment_id: Mapped[str | None] = mapped_column(String(32))
    """MLflow's experiment of that run; part of its address."""
    mlflow_epochs: Mapped[int]
    """Epochs that MLflow confirmed."""
    mlflow_synced_at: Mapped[Millis | None]
    """When MLflow came to hold everything of the finished job; null before."""
    mlflow_problem: Mapped[str | None]
    """Why the last export failed; null if it did not."""


class Attempt(Base):
    """One try at training a job by one trainer process."""

    __tablename__ = "attempts"

    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    """The job."""
    number: Mapped[int] = mapped_column(primary_key=True)
    """1 for the first."""
    fence: Mapped[int]
    """The fence it wrote with."""
    worker: Mapped[str]
    """Name of the worker that supervised it."""
    device: Mapped[str]
    """Where it ran, such as cpu or gpu:0."""
    started_at: Mapped[Millis]
    """When the job was claimed."""
    ended_at: Mapped[Millis | None]
    """When it ended; null while it runs."""
    reason: Mapped[Reason | None]
    """How it ended."""
    detail: Mapped[str | None]
    """One sentence about the end, with signal or exit code where a process died."""
    first_epoch: Mapped[int]
    """The absolute epoch it began with."""


class Epoch(Base):
    """One row of a job's history."""

    __tablename__ = "epochs"

    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    """The job."""
    epoch: Mapped[int] = mapped_column(primary_key=True)
    """0-based and absolute over all attempts."""
    fence: Mapped[int]
    """The attempt that trained it."""
    metrics: Mapped[Document]
    """Keras's logs of the epoch, by name; a value that is not finite is null."""
    learning_rate: Mapped[float]
    """Learning rate at the epoch's end."""
    seconds: Mapped[float]
    """Wall clock of training and validation, without tracing and compiling, measured by the trainer."""
    examples: Mapped[int]
    """Training examples seen in the epoch."""
    ended_at: Mapped[Millis]
    """When the row was written; rises strictly within a job. MLflow gets this very timestamp."""


class Checkpoint(Base):
    """A file that holds all of a training's state at an epoch's end."""

    __tablename__ = "checkpoints"

    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    """The job."""
    epoch: Mapped[int] = mapped_column(primary_key=True)
    """Epochs done when it was taken."""
    fence: Mapped[int]
    """The attempt that took it."""
    path: Mapped[str]
    """File below the job's folder."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    """Its size."""
    sha256: Mapped[Sha256]
    """Its content; a file that differs is not loaded."""


class Evaluation(Base):
    """Metrics of a finished job's model on a named split, asked for by the spec or later by a person."""

    __tablename__ = "evaluations"
    __table_args__ = (
        Index("ix_evaluations_owner_id_idempotency_key", "owner_id", "idempotency_key", unique=True),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text."""
    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    """The job whose model is evaluated."""
    owner_id: Mapped[Id] = mapped_column(ForeignKey("owners.id"))
    """Who asked."""
    split: Mapped[Split]
    """On which part of the dataset."""
    state: Mapped[EvaluationState]
    """Where it stands."""
    why: Mapped[str | None]
    """The asker's reason."""
    metrics: Mapped[Document | None]
    """Metrics by name."""
    outcome: Mapped[Document | None]
    """services.answers.Outcome: how predictions compare with the truth, from which pictures are drawn."""
    rows: Mapped[int | None]
    """Examples evaluated."""
    detail: Mapped[str | None]
    """Why it failed."""
    fence: Mapped[int]
    """As a job's."""
    worker: Mapped[str | None]
    """Name of the worker that claimed it last."""
    attempts: Mapped[int]
    """Tries begun."""
    lease_until: Mapped[Millis | None]
    """As a job's."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    """As an upload's."""
    request_sha256: Mapped[Sha256 | None]
    """As an upload's; null for what the spec asked for."""
    created_at: Mapped[Millis]
    """When it was asked for."""
    finished_at: Mapped[Millis | None]
    """When metrics or failure became final."""


class Prediction(Base):
    """What a finished job's model says of some rows."""

    __tablename__ = "predictions"
    __table_args__ = (
        Index("ix_predictions_owner_id_idempotency_key", "owner_id", "idempotency_key", unique=True),
        Index("ix_predictions_state_lease_until", "state", "lease_until"),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text."""
    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    """The job whose model predicts."""
    owner_id: Mapped[Id] = mapped_column(ForeignKey("owners.id"))
    """Who asked."""
    split: Mapped[Split | None]
    """The part of the job's dataset whose rows are predicted; null where the rows came with the request."""
    why: Mapped[str | None]
    """The asker's reason; there is one for the test split."""
    request: Mapped[Document | None]
    """services.predictions.PredictionRequest as JSON; its instances are dropped once they are predicted."""
    state: Mapped[EvaluationState]
    """Where it stands."""
    result: Mapped[Document | None]
    """One services.answers.Predicted a row, under `rows`."""
    rows: Mapped[int | None]
    """How many rows were predicted."""
    problems: Mapped[Document | None]
    """About the rows that came, services.answers.DataProblem: `found` refused them, `noticed` did not."""
    detail: Mapped[str | None]
    """Why it failed."""
    fence: Mapped[int]
    """As a job's."""
    worker: Mapped[str | None]
    """Name of the worker that claimed it last."""
    attempts: Mapped[int]
    """Tries begun."""
    lease_until: Mapped[Millis | None]
    """As a job's."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    """As an upload's."""
    request_sha256: Mapped[Sha256]
    """As an upload's."""
    created_at: Mapped[Millis]
    """When it was asked for."""
    finished_at: Mapped[Millis | None]
    """When the result or the failure became final."""


class Deletion(Base):
    """A job that was deleted: who follows the list of jobs is told."""

    __tablename__ = "deletions"
    __table_args__ = (Index("ix_deletions_deleted_at", "deleted_at"),)

    job_id: Mapped[Id] = mapped_column(primary_key=True)
    """The job that is no more."""
    deleted_at: Mapped[Millis]
    """When."""


class MlflowRemoval(Base):
    """A deleted job whose run in MLflow is to go, too."""

    __tablename__ = "mlflow_removals"

    job_id: Mapped[Id] = mapped_column(primary_key=True)
    """The job that was deleted; its run carries it as a tag."""
    problem: Mapped[str | None]
    """Why the last try failed."""
    asked_at: Mapped[Millis]
    """When the job was deleted."""


class Look(Base):
    """A row of the append-only ledger: somebody looked at a test split. It outlives the job."""

    __tablename__ = "looks"
    # The name is older than the column's.
    __table_args__ = (UniqueConstraint("subject_id", name="uq_looks_evaluation_id"),)

    id: Mapped[Id] = mapped_column(primary_key=True)
    """UUIDv7 text."""
    dataset_version: Mapped[Sha256] = mapped_column(index=True)
    """Whose test split."""
    dataset_name: Mapped[str] = mapped_column(String(64), index=True)
    """The dataset's name."""
    job_id: Mapped[Id]
    """With which job's model."""
    subject_id: Mapped[Id]
    """What came of it: the evaluation or the prediction."""
    subject: Mapped[str] = mapped_column(String(16))
    """`evaluation` or `prediction`."""
    owner_name: Mapped[str]
    """Who looked."""
    why: Mapped[str]
    """The reason given."""
    looks_before: Mapped[int]
    """Looks at this version's test split before this one."""
    looked_at: Mapped[Millis]
    """When."""


class Event(Base):
    """What happened to a job, in order and without gaps."""

    __tablename__ = "events"

    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    """The job."""
    seq: Mapped[int] = mapped_column(primary_key=True)
    """1, 2, 3 … within the job."""
    kind: Mapped[str] = mapped_column(String(32))
    """`state`, `resumed`, `cancel_requested`, `checkpoint_skipped` or `patched`."""
    data: Mapped[Document]
    """Facts of the event."""
    fence: Mapped[int]
    """The job's fence at that time."""
    at: Mapped[Millis]
    """When."""


class IdempotencyKey(Base):
    """A submit that may be repeated: the same key and body give the same job."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("job_id"),)

    owner_id: Mapped[Id] = mapped_column(ForeignKey("owners.id"), primary_key=True)
    """Whose key; keys of different people do not meet."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    """What the client sent."""
    request_sha256: Mapped[Sha256]
    """The request body and query that came with it first."""
    job_id: Mapped[Id] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    """The job it made."""
    created_at: Mapped[Millis]
    """When."""


class Leader(Base):
    """Which process runs a loop that only one may run."""

    __tablename__ = "leaders"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    """The loop."""
    holder: Mapped[str]
    """Name of the worker that leads."""
    until: Mapped[Millis]
    """Until when, unless it is renewed."""


class Worker(Base):
    """A worker process and its last sign of life."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    """Host name and process id, unless it was given a name."""
    kind: Mapped[str] = mapped_column(String(16))
    """`train` or `housekeeping`."""
    host: Mapped[str]
    """Host name."""
    slots: Mapped[int]
    """Trainers it runs at once."""
    device: Mapped[str]
    """What the slots are on, such as cpu or gpu:0 NVIDIA H100."""
    ready: Mapped[bool]
    """Whether its forkserver proved that TensorFlow is imported."""
    started_at: Mapped[Millis]
    """When it started."""
    seen_at: Mapped[Millis]
    """Last sign of life; a worker is taken for gone one lease later."""

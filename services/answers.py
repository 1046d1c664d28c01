"""What the API answers: one pydantic class for each resource, from which the OpenAPI document is made too."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.schema import DatasetSchema, Rows
from services.states import DatasetState, EvaluationState, JobState, Reason, Relation, Split


class Answer(BaseModel):
    """Base of all answers: nothing unnamed leaves the service."""

    model_config = ConfigDict(extra="forbid")


class Progress(Answer):
    """How far the training has come."""

    epoch: int = Field(description="Epochs done.")
    of: int = Field(description="Epochs asked for.")
    inherited: int = Field(description="Epochs at the history's beginning that the parent trained.")
    percent: float = Field(description="0 to 100, counting the part of the epoch under way.")
    eta_seconds: float | None = Field(description="Expected seconds to the end; null while no epoch tells.")


class Best(Answer):
    """The best epoch so far, by validation where there is one."""

    epoch: int = Field(description="0-based, as in Keras's History.")
    metric: str
    value: float


class QueuePlace(Answer):
    """Where a queued job stands and what it waits for."""

    position: int = Field(description="1 is next.")
    ahead: int
    why: str = Field(description="One sentence: what the job waits for.")


class Timings(Answer):
    """When things happened (UTC) and how long they took (seconds)."""

    created_at: datetime
    started_at: datetime | None = Field(description="First claim by a worker.")
    finished_at: datetime | None
    queue_seconds: float | None = Field(description="From submit to the first claim.")
    first_epoch_seconds: float | None = Field(description="From submit to the end of its own first epoch.")
    train_seconds: float | None = Field(description="Sum of its epochs' seconds, without the inherited ones.")
    startup: dict[str, float] = Field(
        description="Where the last attempt's time went, in order: `queue`, `claim`, `fork`, `device`, "
        "`data`, `build`, `resume`, `trace_and_compile`, `first_epoch`, and `deliver` until that epoch was "
        "stored. Empty before."
    )


class Attempt(Answer):
    """One try at training a job by one trainer process."""

    number: int = Field(description="1 for the first.")
    worker: str
    device: str
    started_at: datetime
    ended_at: datetime | None
    reason: Reason | None = Field(description="How it ended; null while it runs.")
    detail: str | None
    first_epoch: int = Field(description="The absolute epoch it began with.")
    epochs_kept: int = Field(description="Epochs of this attempt that are in the history.")


class DatasetRef(Answer):
    """The data a job uses."""

    name: str
    version: str | None = Field(description="SHA-256 of the content; null until the dataset is ready.")


class MlflowLink(Answer):
    """The job's MLflow run."""

    run_id: str | None
    url: str | None
    synced: bool = Field(description="Whether MLflow holds everything that SQL holds of this job.")


class Parent(Answer):
    """The job that this one was made from."""

    job: str = Field(description="Its id; it may have been deleted since.")
    relation: Relation


class Job(Answer):
    """One accepted spec and everything that came of it."""

    id: str
    name: str
    state: JobState
    reason: Reason | None
    detail: str | None = Field(description="One sentence about the reason, for the person who asked.")
    owner: str
    parent: Parent | None = Field(description="Null for a job that was submitted.")
    priority: int = Field(description="Which of the owner's queued jobs starts first: the highest.")
    note: str | None = Field(description="What a person wrote about it.")
    labels: dict[str, str]
    spec: dict[str, Any] = Field(description="The resolved spec, every default written out.")
    seed: int
    progress: Progress
    best: Best | None
    metrics: dict[str, float] | None = Field(description="Metrics of the last finished epoch.")
    queue: QueuePlace | None = Field(description="Only while queued.")
    timings: Timings
    attempts: int
    cancel_requested: bool
    dataset: DatasetRef
    params_count: int
    device: str | None
    engine: str | None = Field(description="Which engine trains it; null before the training starts.")
    engine_why: str | None = Field(description="Why that engine, in words.")
    environment: dict[str, Any] = Field(description="Versions and threads of the last attempt.")
    steps_seconds: dict[str, float] = Field(description="Seconds of each step of the last attempt.")
    mlflow: MlflowLink
    links: dict[str, str]


class JobPage(Answer):
    """A page of jobs, newest first."""

    data: list[Job]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` to get the next page.")


class DryRun(Answer):
    """What a submit would do."""

    spec: dict[str, Any]
    params_count: int
    batches_per_epoch: int | None = Field(description="Null until the dataset is ready.")
    warnings: list[str]


class History(Answer):
    """Keras's History as JSON. A value that is not finite is null."""

    params: dict[str, Any] = Field(description="Keras's History.params: verbose, epochs, steps.")
    epoch: list[int] = Field(description="0-based epoch numbers.")
    history: dict[str, list[float | None]] = Field(description="One list a metric, in the order of `epoch`.")
    provisional_from: int | None = Field(
        description="First epoch that no checkpoint covers yet; a crash would undo it. Null: none."
    )


class LayerSummary(Answer):
    """One row of the model summary."""

    name: str
    type: str
    output_shape: list[int | None]
    params: int
    trainable_params: int


class Summary(Answer):
    """Keras's model summary, from arithmetic."""

    layers: list[LayerSummary]
    params: int
    trainable_params: int
    non_trainable_params: int
    text: str


class Look(Answer):
    """A row of the ledger of looks at a test split."""

    job: str
    subject: Literal["evaluation", "prediction"] = Field(description="What the look was.")
    looked_at: datetime
    who: str
    why: str
    looks_before: int = Field(description="Looks at this dataset version's test split before this one.")


class Confusion(Answer):
    """How often each true class was taken for each class."""

    class_names: list[str]
    counts: list[list[int]] = Field(description="Row: true class; column: predicted class.")


class LabelCounts(Answer):
    """One label of a multilabel target: predictions against the truth at threshold 0.5."""

    label: str
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


class Scatter(Answer):
    """One target of a regression, in its original units; points of at most 2,000 evenly chosen rows."""

    target: str
    rows: int = Field(description="How many rows the two figures are over.")
    r2: float | None = Field(description="Coefficient of determination; null where all targets are equal.")
    mean_absolute_error: float | None = Field(description="Null where there are no rows.")
    true: list[float]
    predicted: list[float]


class Outcome(Answer):
    """How predictions compare with the truth; what does not belong to the task is null."""

    confusion: Confusion | None = None
    labels: list[LabelCounts] | None = None
    scatter: list[Scatter] | None = None


class Evaluation(Answer):
    """Metrics of a finished job's model on a named split."""

    id: str
    job: str
    split: Split
    state: EvaluationState
    metrics: dict[str, float] | None
    outcome: Outcome | None = Field(description="Null in lists, and for evaluations of before it was kept.")
    rows: int | None
    detail: str | None
    reason: str | None = Field(description="Why the asker looked; asked for on the test split.")
    looks_before: int | None = Field(description="Test split only: looks at it before this one.")
    created_at: datetime
    finished_at: datetime | None


class EvaluationList(Answer):
    """All evaluations of a job, oldest first, without their outcomes."""

    data: list[Evaluation]


class AttemptList(Answer):
    """All attempts of a job, oldest first."""

    data: list[Attempt]


class SourceAsked(Answer):
    """One place where data was looked for."""

    name: str
    why: str | None = Field(description="Why it did not have the data; null for the one that had it.")


class DataProblem(Answer):
    """Something about a file or about rows that came: where, what came, what would do."""

    code: str = Field(description="Stable name of the rule that was broken.")
    message: str = Field(description="What is wrong.")
    file: str | None = Field(default=None, description="Form field of the file, where several came.")
    line: int | None = Field(
        default=None, description="Line of a text file, 1 is the first; otherwise row, 1 is the first."
    )
    column: str | None = None
    received: Any = Field(default=None, description="What came.")
    expected: str | None = Field(default=None, description="What would do.")
    count: int = Field(default=1, description="How often; the place is that of the first.")


class ColumnStatistics(Answer):
    """What the unsealed rows hold in one column; for arrays, in all of the inputs together."""

    name: str
    kind: Literal["numeric", "categorical"]
    missing: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    counts: dict[str, int] | None = Field(default=None, description="Categorical only: rows by value.")


class Sample(Answer):
    """One example: inputs by column name, or as an array; targets by name."""

    features: dict[str, Any] | list[Any]
    target: dict[str, Any]


class DatasetStatistics(Answer):
    """Figures of the unsealed rows; the sealed ones are counted and nothing else."""

    columns: list[ColumnStatistics]
    targets: list[ColumnStatistics]
    class_counts: dict[str, int] | None = Field(description="Classes and labels only: rows by class name.")
    samples: list[Sample] = Field(description="The first rows.")


class Upload(Answer):
    """A file that was sent to become a version of a dataset."""

    id: str
    dataset: str
    state: DatasetState
    version: str | None = Field(description="SHA-256 of the content; null until it is ready.")
    filename: str
    bytes: int
    sha256: str = Field(description="SHA-256 of the file as it came.")
    meta: dict[str, Any] = Field(description="What was said of it, every default written out.")
    problems: list[DataProblem] = Field(description="Why it was rejected.")
    warnings: list[DataProblem] = Field(description="What was noticed and did not stop it.")
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


class Dataset(Answer):
    """Named data and its newest version."""

    name: str
    state: DatasetState
    version: str | None = Field(description="SHA-256 of the content.")
    description: str
    schema_: DatasetSchema | None = Field(alias="schema", description="Null until it is known.")
    owner: str | None = Field(description="Who uploaded it; null for those that come with the service.")
    statistics: DatasetStatistics | None = Field(description="Null in lists, and until the data was read.")
    warnings: list[DataProblem] = Field(description="What a person should know of this version.")
    problem: str | None = Field(description="Why it was rejected, naming each source that failed.")
    problems: list[DataProblem] = Field(description="What is wrong with the file of a rejected upload.")
    sources: list[SourceAsked] = Field(description="Where the data was looked for last, in order.")

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Version(Answer):
    """One version of a dataset."""

    version: str = Field(description="SHA-256 of the content.")
    created_at: datetime
    rows: Rows


class VersionList(Answer):
    """All versions of a dataset, newest first."""

    data: list[Version]


class UploadList(Answer):
    """All uploads of a dataset, newest first."""

    data: list[Upload]


class DatasetList(Answer):
    """All datasets by name."""

    data: list[Dataset]


class Ledger(Answer):
    """All looks at the test split of one dataset, oldest first."""

    data: list[Look]


class ClassProbability(Answer):
    """One class and how probable the model calls it."""

    id: int
    class_name: str
    probability: float


class Predicted(Answer):
    """What the model says of one row; what does not belong to the task is null.

    `probabilities`: classes in the order of their ids, or labels in theirs.
    """

    probabilities: list[float | None] | None = None
    class_: int | None = Field(default=None, alias="class", description="Id of the most probable class.")
    class_name: str | None = None
    top_k: list[ClassProbability] | None = Field(default=None, description="Most probable first.")
    labels: list[str] | None = Field(default=None, description="Labels at or above their thresholds.")
    values: dict[str, float | None] | None = Field(
        default=None, description="Regression: targets by name, in their original units."
    )

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Prediction(Answer):
    """What a finished job's model says of some rows, in their order."""

    id: str
    job: str
    state: EvaluationState
    split: Split | None = Field(description="Null where the rows came with the request.")
    rows: int | None
    predictions: list[Predicted] | None = Field(description="Null until it succeeded.")
    problems: list[DataProblem] = Field(description="What is wrong with the rows that came.")
    warnings: list[DataProblem] = Field(
        description="What was noticed and did not stop it, such as categories that no training row had."
    )
    detail: str | None = Field(description="Why it failed.")
    reason: str | None = Field(description="Why the asker looked; asked for on the test split.")
    looks_before: int | None = Field(description="Test split only: looks at it before this one.")
    created_at: datetime
    finished_at: datetime | None


class PredictionList(Answer):
    """A page of a job's predictions, newest first, without their rows."""

    data: list[Prediction]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` to get the next page.")


class JobEvent(Answer):
    """Something that happened to a job."""

    seq: int = Field(description="1, 2, 3 … within the job, without gaps.")
    kind: str
    data: dict[str, Any]
    at: datetime


class EventPage(Answer):
    """A page of a job's events, oldest first."""

    data: list[JobEvent]
    has_more: bool
    next_after: int | None = Field(description="Pass as `after` to get the next page.")


class EpochPoint(Answer):
    """One epoch as streams tell it: a point of each curve. A value that is not finite is null."""

    epoch: int = Field(description="0-based, as in Keras's History. Told again if it is trained again.")
    metrics: dict[str, float | None]
    learning_rate: float
    seconds: float


class ProgressNow(Answer):
    """How far a running job has come at this moment."""

    epoch: int = Field(description="Epochs done.")
    fraction: float = Field(description="Part of the epoch under way that is done, 0 to 1.")
    percent: float = Field(description="0 to 100.")
    eta_seconds: float | None = Field(description="Expected seconds to the end; null while no epoch tells.")


class Done(Answer):
    """How a job ended; the last that its stream tells."""

    state: JobState
    reason: Reason | None
    detail: str | None


class JobSummary(Answer):
    """A job in few words, as the stream of all jobs tells it."""

    id: str
    name: str
    state: JobState
    reason: Reason | None
    owner: str
    progress: Progress
    best: Best | None
    metrics: dict[str, float | None] | None = Field(description="Metrics of the last finished epoch.")
    priority: int
    labels: dict[str, str]
    changed_at: datetime


class JobDeleted(Answer):
    """A job that is no more."""

    id: str
    deleted_at: datetime


class Worker(Answer):
    """One worker process."""

    name: str
    kind: Literal["train", "housekeeping"]
    host: str
    slots: int
    busy: int
    device: str
    ready: bool = Field(description="Its forkserver has TensorFlow imported and its heartbeat is fresh.")
    seen_at: datetime


class WorkerList(Answer):
    """Workers seen lately."""

    data: list[Worker]


class Queue(Answer):
    """Who runs, who waits, and for what."""

    running: int
    queued: int
    slots: int
    why: str | None = Field(description="Why nothing starts, if so.")
    jobs: list[Job] = Field(
        description="Running jobs, then queued ones in the order they will start; at most 200."
    )
    workers: list[Worker]


class Health(Answer):
    """Readiness, with each part named."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(description="`ok`, or what is wrong, for each part.")


class ProblemItem(Answer):
    """One thing that is wrong with a request."""

    code: str = Field(description="Stable name of the rule that was broken.")
    pointer: str = Field(description="JSON Pointer to the place in the request body.")
    message: str = Field(description="What is wrong.")
    received: Any = Field(default=None, description="What came.")
    expected: str | None = Field(default=None, description="What would do.")


class ProblemDocument(Answer):
    """RFC 9457 problem details; `errors` holds all problems at once."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[ProblemItem] = []

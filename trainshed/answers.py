"""The server's answers as the client hands them out: plain JSON with typed keys. `openapi.json` says more."""

from typing import Any, Literal, NotRequired, TypedDict

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
WorkState = Literal["queued", "running", "succeeded", "failed"]
DatasetState = Literal["available", "processing", "ready", "rejected"]
Split = Literal["train", "validation", "test"]
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Progress(TypedDict):
    """`epoch` of `of` epochs are done, `inherited` of them by the parent; `percent` counts a part, too."""

    epoch: int
    of: int
    inherited: int
    percent: float
    eta_seconds: float | None


class Best(TypedDict):
    """The best epoch (0-based) by the named metric."""

    epoch: int
    metric: str
    value: float


class QueuePlace(TypedDict):
    """Where a queued job stands; `why` is a sentence."""

    position: int
    ahead: int
    why: str


class Timings(TypedDict):
    """Times are RFC 3339 in UTC, durations in seconds."""

    created_at: str
    started_at: str | None
    finished_at: str | None
    queue_seconds: float | None
    first_epoch_seconds: float | None
    train_seconds: float | None
    startup: dict[str, float]


class DatasetRef(TypedDict):
    """The data of a job; `version` is a SHA-256."""

    name: str
    version: str | None


class MlflowLink(TypedDict):
    """The MLflow run of a job; `synced` once it holds everything."""

    run_id: str | None
    url: str | None
    synced: bool


class Parent(TypedDict):
    """The job that another one was made from; it may have been deleted since."""

    job: str
    relation: Literal["continue", "retry", "clone"]


class JobAnswer(TypedDict):
    """A job as it was when the server answered."""

    id: str
    name: str
    state: JobState
    reason: str | None
    detail: str | None
    owner: str
    parent: Parent | None
    priority: int
    note: str | None
    labels: dict[str, str]
    spec: dict[str, Any]
    seed: int
    progress: Progress
    best: Best | None
    metrics: dict[str, float] | None
    queue: QueuePlace | None
    timings: Timings
    attempts: int
    cancel_requested: bool
    dataset: DatasetRef
    params_count: int
    device: str | None
    engine: str | None
    engine_why: str | None
    environment: dict[str, Any]
    steps_seconds: dict[str, float]
    mlflow: MlflowLink
    links: dict[str, str]


class DryRun(TypedDict):
    """What a submit would do."""

    spec: dict[str, Any]
    params_count: int
    batches_per_epoch: int | None
    warnings: list[str]


class History(TypedDict):
    """Keras's History: one list a metric, in the order of `epoch`. A value that is not finite is None."""

    params: dict[str, Any]
    epoch: list[int]
    history: dict[str, list[float | None]]
    provisional_from: int | None


class LayerSummary(TypedDict):
    """One layer of a model."""

    name: str
    type: str
    output_shape: list[int | None]
    params: int
    trainable_params: int


class Summary(TypedDict):
    """Keras's model summary; `text` is the table."""

    layers: list[LayerSummary]
    params: int
    trainable_params: int
    non_trainable_params: int
    text: str


class Attempt(TypedDict):
    """One try at training a job."""

    number: int
    worker: str
    device: str
    started_at: str
    ended_at: str | None
    reason: str | None
    detail: str | None
    first_epoch: int
    epochs_kept: int


class Confusion(TypedDict):
    """`counts[t][p]`: how often true class t was taken for p."""

    class_names: list[str]
    counts: list[list[int]]


class LabelCounts(TypedDict):
    """One label of a multilabel target at threshold 0.5."""

    label: str
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int


class Scatter(TypedDict):
    """One target of a regression, in its original units, for at most 2,000 rows."""

    target: str
    rows: int
    r2: float | None
    mean_absolute_error: float | None
    true: list[float]
    predicted: list[float]


class Outcome(TypedDict):
    """How predictions compare with the truth; what does not belong to the task is None."""

    confusion: Confusion | None
    labels: list[LabelCounts] | None
    scatter: list[Scatter] | None


class Evaluation(TypedDict):
    """Metrics of a job's model on a split."""

    id: str
    job: str
    split: Split
    state: WorkState
    metrics: dict[str, float] | None
    outcome: Outcome | None
    rows: int | None
    detail: str | None
    reason: str | None
    looks_before: int | None
    created_at: str
    finished_at: str | None


class Look(TypedDict):
    """A row of the ledger of looks at a test split."""

    job: str
    subject: Literal["evaluation", "prediction"]
    looked_at: str
    who: str
    why: str
    looks_before: int


class SourceAsked(TypedDict):
    """One place where data was looked for; `why` it did not have it."""

    name: str
    why: str | None


class DataProblem(TypedDict):
    """Something about a file or about rows: `line` counts from 1, `count` says how often."""

    code: str
    message: str
    file: str | None
    line: int | None
    column: str | None
    received: Any
    expected: str | None
    count: int


class ColumnStatistics(TypedDict):
    """What the unsealed rows hold in one column."""

    name: str
    kind: Literal["numeric", "categorical"]
    missing: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    counts: dict[str, int] | None


class Sample(TypedDict):
    """One example: inputs by column name or as an array, targets by name."""

    features: dict[str, Any] | list[Any]
    target: dict[str, Any]


class DatasetStatistics(TypedDict):
    """Figures of the unsealed rows."""

    columns: list[ColumnStatistics]
    targets: list[ColumnStatistics]
    class_counts: dict[str, int] | None
    samples: list[Sample]


class Dataset(TypedDict):
    """Named data; `schema` has features, target and rows. Lists leave `statistics` out (None)."""

    name: str
    state: DatasetState
    version: str | None
    description: str
    schema: dict[str, Any] | None
    owner: str | None
    statistics: DatasetStatistics | None
    warnings: list[DataProblem]
    problem: str | None
    problems: list[DataProblem]
    sources: list[SourceAsked]


class Upload(TypedDict):
    """A file that was sent to become a version of a dataset; `meta` is what was said of it."""

    id: str
    dataset: str
    state: DatasetState
    version: str | None
    filename: str
    bytes: int
    sha256: str
    meta: dict[str, Any]
    problems: list[DataProblem]
    warnings: list[DataProblem]
    created_at: str
    finished_at: str | None
    links: dict[str, str]


class Version(TypedDict):
    """One version of a dataset."""

    version: str
    created_at: str
    rows: dict[str, int]


class ClassProbability(TypedDict):
    """One class and how probable the model calls it."""

    id: int
    class_name: str
    probability: float


# What the model says of one row; what does not belong to the task is None. `class` is no name in Python.
Predicted = TypedDict(
    "Predicted",
    {
        "probabilities": list[float | None] | None,
        "class": int | None,
        "class_name": str | None,
        "top_k": list[ClassProbability] | None,
        "labels": list[str] | None,
        "values": dict[str, float | None] | None,
    },
)


class Prediction(TypedDict):
    """What a job's model says of some rows, in their order."""

    id: str
    job: str
    state: WorkState
    split: Split | None
    rows: int | None
    predictions: list[Predicted] | None
    problems: list[DataProblem]
    warnings: list[DataProblem]
    detail: str | None
    reason: str | None
    looks_before: int | None
    created_at: str
    finished_at: str | None


class JobEvent(TypedDict):
    """Something that happened to a job; `seq` counts from 1 within the job."""

    seq: int
    kind: str
    data: dict[str, Any]
    at: str


class StateEvent(JobEvent):
    """Of a stream: something that happened to the job."""

    event: Literal["state"]


class EpochPoint(TypedDict):
    """An epoch (0-based) that is done. One that is trained again after a crash is told again."""

    epoch: int
    metrics: dict[str, float | None]
    learning_rate: float
    seconds: float


class EpochEvent(EpochPoint):
    """Of a stream: a point of each curve."""

    event: Literal["epoch"]


class ProgressNow(TypedDict):
    """How far the epoch under way has come (`fraction`), and the whole job (`percent`)."""

    epoch: int
    fraction: float
    percent: float
    eta_seconds: float | None


class ProgressEvent(ProgressNow):
    """Of a stream: how far the job has come."""

    event: Literal["progress"]


class Done(TypedDict):
    """How a job ended."""

    state: JobState
    reason: str | None
    detail: str | None


class DoneEvent(Done):
    """Of a stream: the job has ended, and so does the stream."""

    event: Literal["done"]


class JobDeleted(TypedDict):
    """A job that is no more."""

    id: str
    deleted_at: str


class DeletedEvent(JobDeleted):
    """Of a stream: somebody deleted the job, and the stream ends."""

    event: Literal["deleted"]


class JobSummary(TypedDict):
    """A job in few words."""

    id: str
    name: str
    state: JobState
    reason: str | None
    owner: str
    progress: Progress
    best: Best | None
    metrics: dict[str, float | None] | None
    priority: int
    labels: dict[str, str]
    changed_at: str


StreamEvent = StateEvent | EpochEvent | ProgressEvent | DoneEvent | DeletedEvent


class Worker(TypedDict):
    """One worker process."""

    name: str
    kind: Literal["train", "housekeeping"]
    host: str
    slots: int
    busy: int
    device: str
    ready: bool
    seen_at: str


class Queue(TypedDict):
    """Who runs, who waits, and for what."""

    running: int
    queued: int
    slots: int
    why: str | None
    jobs: list[JobAnswer]
    workers: list[Worker]


class Health(TypedDict):
    """Readiness, part by part."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str]


class ProblemItem(TypedDict):
    """One thing that is wrong with a request."""

    code: str
    pointer: str
    message: str
    received: NotRequired[Any]
    expected: NotRequired[str | None]


class ProblemAnswer(TypedDict):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: NotRequired[str | None]
    errors: NotRequired[list[ProblemItem]]

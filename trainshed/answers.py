"""The server's answers as the client hands them out: plain JSON with typed keys. `openapi.json` says more."""

from typing import Any, Literal, NotRequired, TypedDict

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Split = Literal["train", "validation", "test"]
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Progress(TypedDict):
    """`epoch` of `of` epochs are done; `percent` counts the epoch under way, too."""

    epoch: int
    of: int
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


class DatasetRef(TypedDict):
    """The data of a job; `version` is a SHA-256."""

    name: str
    version: str | None


class MlflowLink(TypedDict):
    """The MLflow run of a job; `synced` once it holds everything."""

    run_id: str | None
    url: str | None
    synced: bool


class JobAnswer(TypedDict):
    """A job as it was when the server answered."""

    id: str
    name: str
    state: JobState
    reason: str | None
    detail: str | None
    owner: str
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


class Evaluation(TypedDict):
    """Metrics of a job's model on a split."""

    id: str
    job: str
    split: Split
    state: Literal["queued", "running", "succeeded", "failed"]
    metrics: dict[str, float] | None
    rows: int | None
    detail: str | None
    reason: str | None
    looks_before: int | None
    created_at: str
    finished_at: str | None


class Look(TypedDict):
    """A row of the ledger of looks at a test split."""

    job: str
    looked_at: str
    who: str
    why: str
    looks_before: int


class SourceAsked(TypedDict):
    """One place where data was looked for; `why` it did not have it."""

    name: str
    why: str | None


class Dataset(TypedDict):
    """Named data; `schema` has features, target and rows."""

    name: str
    state: Literal["available", "processing", "ready", "rejected"]
    version: str | None
    description: str
    schema: dict[str, Any] | None
    problem: str | None
    sources: list[SourceAsked]


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

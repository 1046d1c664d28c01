"""What a supervisor and its trainer say to each other: JSON over a pipe, never pickle."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import pydantic

from services.states import Reason, Split

Metrics = dict[str, float]


@dataclass(frozen=True)
class Event:
    """Something a trainer says. Floats keep every bit; NaN and infinities travel too, as in JavaScript."""

    event: ClassVar[str]


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint file that is safely on disk."""

    path: str
    epoch: int
    bytes: int
    sha256: str
    seconds: float


@dataclass(frozen=True)
class SavedModel:
    """The finished model file."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class BestEpoch:
    """The epoch with the best value of one metric."""

    epoch: int
    metric: str
    value: float


@dataclass(frozen=True)
class SplitMetrics:
    """One split's metrics, and how many rows they are over."""

    split: Split
    metrics: Metrics
    rows: int
    outcome: dict[str, Any] | None = None
    """services.answers.Outcome as JSON."""


@dataclass(frozen=True)
class TargetScaling:
    """How a model's outputs become targets in their own units: output x scale + offset, one each a target."""

    offset: list[float]
    scale: list[float]


@dataclass(frozen=True)
class Ready(Event):
    """The process is up and its device is set."""

    event: ClassVar[str] = "ready"
    tensorflow_preloaded: bool
    tensorflow: str
    keras: str
    numpy: str
    device: str
    threads: int


@dataclass(frozen=True)
class EngineChosen(Event):
    """Which engine trains, and why; sent once an attempt, before its first epoch."""

    event: ClassVar[str] = "engine"
    engine: str
    why: str


@dataclass(frozen=True)
class StartedUp(Event):
    """Seconds by name from the order to the end of the attempt's first epoch; sent just before that epoch."""

    event: ClassVar[str] = "started_up"
    seconds: dict[str, float]


@dataclass(frozen=True)
class Resumed(Event):
    """Training goes on from a checkpoint, or anew if none was usable; `epoch` is the first to train."""

    event: ClassVar[str] = "resumed"
    epoch: int
    path: str


@dataclass(frozen=True)
class CheckpointSkipped(Event):
    """A checkpoint was not usable."""

    event: ClassVar[str] = "checkpoint_skipped"
    path: str
    why: str


@dataclass(frozen=True)
class Progress(Event):
    """Within an epoch: the share done, 0 to 1, and the running metrics."""

    event: ClassVar[str] = "progress"
    epoch: int
    fraction: float
    metrics: Metrics


@dataclass(frozen=True)
class EpochEnded(Event):
    """One line of the history. `seconds` holds training and validation; no tracing, compiling, checkpoint."""

    event: ClassVar[str] = "epoch"
    epoch: int
    metrics: Metrics
    learning_rate: float
    seconds: float
    examples: int
    checkpoint: SavedCheckpoint | None


@dataclass(frozen=True)
class Finished(Event):
    """The order is done. An evaluate order fills `evaluations` only."""

    event: ClassVar[str] = "finished"
    evaluations: list[SplitMetrics]
    reason: Literal[Reason.FINISHED, Reason.STOPPED_EARLY] | None = None
    epochs: int | None = None
    best: BestEpoch | None = None
    restored_epoch: int | None = None
    model: SavedModel | None = None
    engine: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    target_scaling: TargetScaling | None = None


@dataclass(frozen=True)
class Predicted(Event):
    """The answer to one request; a row is a services.answers.Predicted as JSON.

    `warnings` to them, `problems` in their place: services.answers.DataProblem as JSON; `why`: it cannot be
    done.
    """

    event: ClassVar[str] = "predicted"
    number: int
    rows: list[dict[str, Any]] | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    problems: list[dict[str, Any]] | None = None
    why: str | None = None


@dataclass(frozen=True)
class Stopped(Event):
    """A stop command was obeyed; `epoch` is the one that was under way and is not reported."""

    event: ClassVar[str] = "stopped"
    epoch: int


@dataclass(frozen=True)
class Failed(Event):
    """The verdict on a trainer that could not finish."""

    event: ClassVar[str] = "failed"
    reason: Reason
    message: str
    detail: str | None = None
    epoch: int | None = None


type_of_event: dict[str, type[Event]] = {
    kind.event: kind
    for kind in (
        Ready,
        EngineChosen,
        StartedUp,
        Resumed,
        CheckpointSkipped,
        Progress,
        EpochEnded,
        Finished,
        Predicted,
        Stopped,
        Failed,
    )
}
_readers = {name: pydantic.TypeAdapter(kind) for name, kind in type_of_event.items()}


def encode(event: Event) -> bytes:
    """One event as one message."""
    return json.dumps({"event": event.event, **asdict(event)}).encode()


def decode(message: bytes) -> Event:
    """The event in a message. Raises ValueError for anything else."""
    facts = json.loads(message)
    reader = _readers.get(facts.pop("event", None))
    if reader is None:
        raise ValueError(f"not an event of a trainer: {message[:200]!r}")
    event: Event = reader.validate_python(facts)
    return event


def encode_all(events: Sequence[Event]) -> bytes:
    """Events that travel together, as one message: a line each."""
    return b"\n".join(encode(event) for event in events)


def decode_all(message: bytes) -> list[Event]:
    """The events in a message, in order. Raises ValueError for anything else."""
    return [decode(line) for line in message.split(b"\n")]


class Paper(pydantic.BaseModel):
    """Base of the documents that a supervisor hands over."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Device(Paper):
    """Where to compute. `threads` null: all that the process may use."""

    kind: Literal["cpu", "gpu"] = "cpu"
    index: int | None = None
    memory_limit_mb: int | None = None
    threads: int | None = None
    data_mb: int | None = None
    """How much of a dataset may lie on the device at once, in MiB; null: all of it."""


class DatasetPlace(Paper):
    """A dataset version on disk; `schema` as in services.schema."""

    name: str
    version: str
    path: str
    schema_: dict[str, Any] = pydantic.Field(alias="schema")


class CheckpointFile(Paper):
    """A checkpoint that SQL knows of."""

    path: str
    epoch: int
    sha256: str


class ModelFile(Paper):
    """A finished model that SQL knows of."""

    path: str
    sha256: str


class TrainOrder(Paper):
    """Train a job; checkpoints come newest first."""

    kind: Literal["train"] = "train"
    job: str
    fence: int
    spec: dict[str, Any]
    dataset: DatasetPlace
    job_dir: str
    checkpoints: list[CheckpointFile] = []
    best: BestEpoch | None = None
    """The best epoch that these checkpoints cover, by this spec's monitor."""
    is_continued: bool = False
    """Whether the job was made to train more epochs than its parent had."""
    sent_at: float | None = None
    """When the supervisor sent the order, in seconds since 1970 (UTC)."""
    compiled: str | None = None
    """A folder where compiled programs are kept for later jobs."""
    device: Device = Device()


class EvaluateOrder(Paper):
    """Evaluate a finished job's model on one split."""

    kind: Literal["evaluate"] = "evaluate"
    job: str
    spec: dict[str, Any]
    dataset: DatasetPlace
    job_dir: str
    model: ModelFile
    split: Split
    target_scaling: TargetScaling | None = None
    device: Device = Device()


class PredictOrder(Paper):
    """Load a finished job's model and answer requests until told to stop."""

    kind: Literal["predict"] = "predict"
    job: str
    spec: dict[str, Any]
    dataset: DatasetPlace
    model: ModelFile
    target_scaling: TargetScaling | None = None
    device: Device = Device()


class PredictRequest(Paper):
    """One request to a process that carries out a predict order: rows come in one of three ways."""

    number: int
    instances: list[Any] | None = None
    """As people sent them."""
    inputs: str | None = None
    """A .npy file of inputs."""
    split: Split | None = None
    rows: list[int] | None = None
    """Positions in the split; None: all of it."""
    top_k: int | None = None
    thresholds: float | dict[str, float] | None = None


Order = TrainOrder | EvaluateOrder | PredictOrder
_orders: pydantic.TypeAdapter[Order] = pydantic.TypeAdapter(Order)


def encode_order(order: Order) -> bytes:
    """One order as JSON."""
    return json.dumps(order.model_dump(mode="json", by_alias=True)).encode()


def decode_order(message: bytes) -> Order:
    """The order in a document. Raises ValueError (pydantic's ValidationError) for anything else."""
    return _orders.validate_python(json.loads(message))


def encode_request(request: PredictRequest) -> bytes:
    """One request as one message."""
    return request.model_dump_json().encode()


def decode_request(message: bytes) -> PredictRequest:
    """The request in a message. Raises ValueError (pydantic's ValidationError) for anything else."""
    return PredictRequest.model_validate_json(message)


STOP = b'{"command": "stop"}'

"""What a job, an evaluation and a dataset version can be: few states, many reasons."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. A wish, such as a cancel, is a column and not a state."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job can never change again."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Reason(StrEnum):
    """Why a job is in its state; for an attempt, how it ended."""

    FINISHED = "finished"
    STOPPED_EARLY = "stopped_early"
    USER_CANCELLED = "user_cancelled"
    DIVERGED = "diverged"
    BAD_SPEC = "bad_spec"
    BAD_DATA = "bad_data"
    OOM_GPU = "oom_gpu"
    OOM_HOST = "oom_host"
    TIME_LIMIT = "time_limit"
    LOST_WORKER = "lost_worker"
    DEPLOY = "deploy"
    POISON = "poison"
    INFRASTRUCTURE = "infrastructure"

    @property
    def is_users_to_mend(self) -> bool:
        """Whether another try would end the same way until the user changes something."""
        return self in {Reason.DIVERGED, Reason.BAD_SPEC, Reason.BAD_DATA, Reason.TIME_LIMIT}

    @property
    def counts_as_attempt(self) -> bool:
        """Whether it uses up one of a job's infrastructure retries; a deploy does not."""
        return self is not Reason.DEPLOY


class Relation(StrEnum):
    """How a job was made from its parent."""

    CONTINUE = "continue"
    RETRY = "retry"
    CLONE = "clone"


class EvaluationState(StrEnum):
    """Where an evaluation or a prediction stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether its result, or its failure, is final."""
        return self in {EvaluationState.SUCCEEDED, EvaluationState.FAILED}


class DatasetState(StrEnum):
    """Where a dataset stands: known by name only, being read, usable, or refused."""

    AVAILABLE = "available"
    PROCESSING = "processing"
    READY = "ready"
    REJECTED = "rejected"


class Split(StrEnum):
    """The parts of a dataset. The test split is sealed: each look at it is a row in the ledger."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"

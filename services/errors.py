"""What can go wrong in the domain.

TrainshedError
├── NotFound                 no such job, dataset or evaluation
├── Conflict                 the thing exists, but not in a state that allows the request
├── KeyReused                an idempotency key came with another body
├── SpecInvalid              (services.problems) a spec with its problems
├── LeaseLost                the job belongs to somebody else now
└── StoreOutdated            the database is not at this code's revision
"""


class TrainshedError(Exception):
    """Base of all errors that the service raises on purpose; `str(error)` is a sentence for a person."""


class NotFound(TrainshedError):
    """Nothing of this kind has this id."""

    def __init__(self, kind: str, id_: str) -> None:
        self.kind = kind
        self.id = id_
        super().__init__(f"There is no {kind} {id_!r}.")


class Conflict(TrainshedError):
    """The request does not fit the state that the thing is in."""


class KeyReused(TrainshedError):
    """The same Idempotency-Key came before with another body."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"The Idempotency-Key {key!r} was used before with another request body. "
            "Use a new key for a new request, or send the first body again."
        )


class LeaseLost(TrainshedError):
    """A write named a fence that is no longer the job's: the attempt has to end without writing."""

    def __init__(self, job: str, fence: int) -> None:
        self.job = job
        self.fence = fence
        super().__init__(f"Fence {fence} of job {job} is no longer valid.")


class StoreOutdated(TrainshedError):
    """The database's revision is not the one this code was written for."""

    def __init__(self, found: str | None, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(
            f"The database is at revision {found or 'none'}, this code needs {expected}. "
            "Run `python -m migrations upgrade`."
        )

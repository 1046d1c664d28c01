"""What can go wrong for a user.

TrainshedError
├── ServerUnknown          nothing says where the server is
├── KeyUnknown             nothing says which key to send
├── Unreachable            the server does not answer
├── ProblemError           the server refused; carries its problem document
│   ├── Refused            400, 415, 422: the request has to change
│   ├── Unauthorized       401, 403
│   ├── NotFound           404
│   ├── Conflict           409, 412
│   └── ServerFailed       500 and above
├── DataRejected           a dataset's file, or rows to predict, cannot be used; carries every problem
├── PredictionFailed       the model could not predict
├── KerasMissing           a model is to be loaded, and Keras is not here
├── NoSuchFile             a file is not there
├── FileUnreadable         a file cannot be read as what it should be
├── NotWritten             a download cannot be written where it should go
├── NoSuchJob              an abbreviated id fits no job
│   └── TooShort           it has too few characters to be looked for
├── AmbiguousJob           an abbreviated id fits several
├── StillRunning           something has not ended in the time that was given
└── StackError             `trainshed up` cannot start
    ├── NoCheckout         the server's code is not here
    ├── PythonTooOld
    ├── PackagesMissing
    ├── HomeUnusable
    ├── HomeInUse          another `up` has it
    ├── PortTaken
    └── StepFailed         a process of the stack ended before the stack was ready
"""

from collections.abc import Sequence
from pathlib import Path

from trainshed.answers import DataProblem, Prediction, ProblemAnswer, ProblemItem, Upload


class TrainshedError(Exception):
    """Base of all errors that this package raises on purpose."""


class ServerUnknown(TrainshedError):
    """Nothing says where the server is."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(
            f"No server is known here: {home} holds no address. Start one with `trainshed up`, "
            "or set TRAINSHED_HOME to the home of one that runs, or TRAINSHED_URL and TRAINSHED_KEY."
        )


class KeyUnknown(TrainshedError):
    """Nothing says which key to send."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"No API key for this server ({path} is not for it, or is missing): set TRAINSHED_KEY, "
            "or TRAINSHED_HOME to the home that the server was started with."
        )


class Unreachable(TrainshedError):
    """The server does not answer, or its answer broke off."""

    def __init__(self, url: str, why: str) -> None:
        self.url = url
        self.why = why
        super().__init__(
            f"{url} does not answer ({why}). Start the server with `trainshed up`, "
            "or set TRAINSHED_URL to the right one."
        )


class ProblemError(TrainshedError):
    """The server refused. `problem` is its problem document (RFC 9457)."""

    def __init__(self, problem: ProblemAnswer) -> None:
        self.problem = problem
        super().__init__(_readable(problem))

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem["status"]

    @property
    def problems(self) -> list[ProblemItem]:
        """All that is wrong, each with a JSON Pointer."""
        return self.problem.get("errors", [])


class Refused(ProblemError):
    """The request has to change before it can succeed."""


class Unauthorized(ProblemError):
    """The key is not known, or not allowed to do this."""

    def __str__(self) -> str:
        told = super().__str__()
        if self.status != 401:
            return told
        return (
            f"{told}\nThe key came from TRAINSHED_KEY, else from the home folder: "
            "set TRAINSHED_HOME to the home that the server was started with."
        )


class NotFound(ProblemError):
    """There is no such thing."""


class Conflict(ProblemError):
    """The thing is in a state that does not allow this."""


class ServerFailed(ProblemError):
    """The server could not do what it should."""


def problem_error(document: ProblemAnswer) -> ProblemError:
    """The error class for a problem document, by its status."""
    kinds: dict[int, type[ProblemError]] = {
        401: Unauthorized, 403: Unauthorized, 404: NotFound, 409: Conflict, 412: Conflict,
    }  # fmt: skip
    status = document["status"]
    return (ServerFailed if status >= 500 else kinds.get(status, Refused))(document)


class DataRejected(TrainshedError):
    """A dataset's file, or rows to predict, cannot be used. `answer` is what the server says of them."""

    def __init__(self, what: str, answer: Upload | Prediction) -> None:
        self.answer = answer
        super().__init__("\n".join([f"{what} cannot be used:", *map(_data_line, answer["problems"])]))

    @property
    def problems(self) -> list[DataProblem]:
        """All that is wrong, each with its place, what came and what would do."""
        return self.answer["problems"]


class PredictionFailed(TrainshedError):
    """The model could not predict. `answer` is what the server says of it."""

    def __init__(self, answer: Prediction) -> None:
        self.answer = answer
        super().__init__(f"Prediction {answer['id']} failed: {answer['detail']}")


class RowsDoubtful(UserWarning):
    """The model can only guess at rows that were sent. `problem` says where and why."""

    def __init__(self, problem: DataProblem) -> None:
        self.problem = problem
        rows = f"{problem['count']} row{'' if problem['count'] == 1 else 's'}, first row {problem['line']}"
        super().__init__(f"{problem['message']} ({rows}; known: {problem['expected']})")


class KerasMissing(TrainshedError):
    """A model is to be loaded, and Keras is not here."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"The model is a Keras model, and Keras cannot be imported here ({why}). Install it "
            "(pip install tensorflow), or write the file with download_model()."
        )


class NoSuchFile(TrainshedError, FileNotFoundError):
    """A file is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"There is no file {path} (looked in {Path.cwd()}).")


class FileUnreadable(TrainshedError):
    """A file cannot be read as what it should be."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path} cannot be read: {why}.")


class NotWritten(TrainshedError):
    """A download cannot be written where it should go."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path} cannot be written: {why}.")


class NoSuchJob(TrainshedError):
    """An abbreviated id fits no job."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(
            "There is no job yet."
            if text == "last"
            else f"No job's id begins or ends with {text!r}. See `trainshed ls`."
        )


class TooShort(NoSuchJob):
    """An abbreviated id has too few characters to be looked for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.args = (f"{text!r} is too short: write four characters of the id or more. See `trainshed ls`.",)


class AmbiguousJob(TrainshedError):
    """An abbreviated id fits several jobs."""

    def __init__(self, text: str, ids: Sequence[str]) -> None:
        self.text = text
        self.ids = ids
        more = f" … and {len(ids) - 5} more" if len(ids) > 5 else ""
        super().__init__(f"{text!r} fits {len(ids)} jobs: {', '.join(ids[:5])}{more}. Write more of the id.")


class StillRunning(TrainshedError):
    """Something has not ended in the time that was given; it goes on. `what` is such as `Job 0190…`."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        super().__init__(f"{what} has not ended within {seconds:g} s.")


class StackError(TrainshedError):
    """`trainshed up` cannot start."""


class NoCheckout(StackError):
    """The server's code is not here."""

    def __init__(self, looked_in: Sequence[Path]) -> None:
        self.looked_in = looked_in
        places = " and ".join(map(str, looked_in))
        super().__init__(
            "`trainshed up` runs the server's own code and needs its checkout, the folder that holds "
            f"services/, worker/, api/ and migrations/. It is not in {places}. "
            "Clone the repository and run the command in it."
        )


class PythonTooOld(StackError):
    """The server needs a newer Python."""

    def __init__(self, found: str, needed: str) -> None:
        self.found = found
        self.needed = needed
        super().__init__(f"The server needs Python {needed} or newer; this is {found}.")


class PackagesMissing(StackError):
    """The server's packages are not installed for this Python."""

    def __init__(self, names: Sequence[str], checkout: Path, python: str) -> None:
        self.names = names
        super().__init__(
            f"{python} lacks packages that the server needs: {', '.join(names)}. "
            f"Run `make setup` in {checkout}, then `.venv/bin/trainshed up`."
        )


class HomeUnusable(StackError):
    """The home folder cannot be used."""

    def __init__(self, home: Path, why: str) -> None:
        self.home = home
        self.why = why
        super().__init__(f"The home folder {home} cannot be used: {why}. Choose another with --home.")


class HomeInUse(StackError):
    """Another `up` has this home."""

    def __init__(self, home: Path, pid: int | None) -> None:
        self.home = home
        self.pid = pid
        who = "Another `trainshed up`" if pid is None else f"Another `trainshed up` (process {pid})"
        super().__init__(f"{who} is running on {home}. Stop it, or choose another folder with --home.")


class PortTaken(StackError):
    """Something else listens there."""

    def __init__(self, host: str, port: int, option: str, why: str) -> None:
        self.host = host
        self.port = port
        self.option = option
        super().__init__(
            f"Port {port} on {host} cannot be used ({why}). "
            f"Choose another with {option}, or stop what uses it."
        )


class StepFailed(StackError):
    """A process of the stack ended before the stack was ready."""

    def __init__(self, name: str, code: int, log: Path, times: int = 1) -> None:
        self.name = name
        self.code = code
        how_often = "" if times == 1 else f" {times} times"
        super().__init__(
            f"{name} ended{how_often} with exit code {code} before the stack was ready. "
            f"Its last words are in {log}."
        )


def _readable(document: ProblemAnswer) -> str:
    lines = [document["detail"] or document["title"]]
    lines.extend(_line(item) for item in document.get("errors", []))
    return "\n".join(lines)


def _line(item: ProblemItem) -> str:
    facts = _facts(item.get("received"), item.get("expected"))
    return f"  {item['pointer'] or '/'}: {item['message']}{_bracketed(facts)}"


def _data_line(item: DataProblem) -> str:
    facts = _facts(item["received"], item["expected"])
    if item["count"] > 1:
        facts.append(f"{item['count']} times")
    where = place(item)
    return f"  {where + ': ' if where else ''}{item['message']}{_bracketed(facts)}"


def place(item: DataProblem) -> str:
    """Where a problem of data is: `x.csv, line 17, column MedInc`; empty if it is everywhere."""
    parts = {"": item["file"], "line ": item["line"], "column ": item["column"]}
    return ", ".join(f"{name}{value}" for name, value in parts.items() if value is not None)


def _facts(received: object, expected: str | None) -> list[str]:
    came = [] if received is None else [f"got {received!r}"]
    return came + ([f"expected {expected}"] if expected else [])


def _bracketed(facts: Sequence[str]) -> str:
    return f" ({'; '.join(facts)})" if facts else ""

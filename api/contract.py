"""A view's contract: what it takes and answers, as pydantic classes; OpenAPI's document is made of them."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Response, request
from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.datastructures import MultiDict

from services.documents import read_document
from services.problems import Problem, SpecInvalid, pointer_to

View = Callable[..., Any]


class EventStream:
    """An answer as server-sent events: by the event's name, what its data is."""

    def __init__(self, **events: type[BaseModel]) -> None:
        self.events = events


@dataclass(frozen=True)
class Part:
    """One part of a multipart body: a file, or a JSON document of the model."""

    description: str
    model: type[BaseModel] | None = None
    is_required: bool = True


Answer = type[BaseModel] | EventStream | str | None
"""A class for JSON, a media type for anything else, None for no body."""
LARGEST_BODY = 1_000_000
Model = TypeVar("Model", bound=BaseModel)


class Query(BaseModel):
    """Base of all query strings: unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """Base of all JSON bodies other than a spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Contract:
    """What one view takes and answers."""

    summary: str
    answers: Mapping[int, Answer | tuple[Answer, ...]]
    """By status; several where the client may choose."""
    query: type[Query] | None = None
    body: type[BaseModel] | None = None
    multipart: Mapping[str, Part] | None = None
    """The parts of a multipart/form-data body by their names; besides `body` where there are both."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that mean something, each with a sentence."""
    is_open: bool = False
    """Whether it answers without a key."""


def contract(
    summary: str,
    answers: Mapping[int, Answer | tuple[Answer, ...]],
    *,
    query: type[Query] | None = None,
    body: type[BaseModel] | None = None,
    multipart: Mapping[str, Part] | None = None,
    reads_body: bool = True,
    headers: Mapping[str, str] | None = None,
    is_open: bool = False,
) -> Callable[[View], View]:
    """Declare a view's contract: it gets `query` and `body` as objects and may return an answer object.

    `reads_body=False` is for a view that reads its body itself, as every view with `multipart` does.
    """
    declared = Contract(summary, answers, query, body, multipart, headers or {}, is_open)

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def checked(**path: str) -> Any:
            arguments: dict[str, Any] = dict(path)
            if query is not None:
                arguments["query"] = _read_query(query)
            if body is not None and reads_body:
                arguments["body"] = _read_body(body)
            return _respond(view(**arguments), min(answers))

        checked.contract = declared  # type: ignore[attr-defined]
        return checked

    return decorate


def contract_of(view: View | None) -> Contract | None:
    """What a view declared; None for one that declared nothing."""
    return getattr(view, "contract", None)


def _respond(answer: Any, status: int) -> Any:
    headers: dict[str, str] = {}
    if isinstance(answer, tuple):
        answer, status, *rest = answer
        headers = rest[0] if rest else {}
    if isinstance(answer, BaseModel):
        return json_response(answer, status, headers)
    if isinstance(answer, Response):
        answer.headers.update(headers)
        return answer
    return answer, status, headers


def json_response(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer object as a response."""
    response = Response(answer.model_dump_json(), status, content_type="application/json")
    response.headers.update(headers or {})
    return response


def _read_query(kind: type[Query]) -> Query:
    given: MultiDict[str, str] = request.args
    lists = {name for name, model in kind.model_fields.items() if "list" in str(model.annotation)}
    values = {key: given.getlist(key) if key in lists else given[key] for key in given}
    return validated(kind, values, in_query=True)


def _read_body(kind: type[BaseModel]) -> BaseModel:
    document = read_document(request.get_data(), request.mimetype, limit=LARGEST_BODY)
    return validated(kind, document)


def validated(kind: type[Model], values: object, *, in_query: bool = False) -> Model:
    """Plain data as an object of this class; raises SpecInvalid with all problems."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SpecInvalid(
            tuple(
                Problem(
                    code=item["type"],
                    pointer=_pointer(item["loc"], in_query=in_query),
                    message=_sentence(item["msg"]),
                    received=_plain(item["input"]),
                    expected=_expected(kind, item["type"]),
                )
                for item in error.errors()
            )
        ) from error


def _pointer(place: tuple[int | str, ...], *, in_query: bool) -> str:
    # What is wrong with a key itself is marked by one more step, which no document has.
    steps = place[:-1] if place[1:] and place[-1] == "[key]" else place
    return "?" + "/".join(map(str, steps)) if in_query else pointer_to(*steps)


def _sentence(message: str) -> str:
    """Pydantic's message without its own preface, ended by a full stop."""
    return message.removeprefix("Value error, ").rstrip(".") + "."


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None | list | dict) else str(value)


def _expected(kind: type[BaseModel], code: str) -> str | None:
    return f"one of {', '.join(kind.model_fields)}" if code == "extra_forbidden" else None

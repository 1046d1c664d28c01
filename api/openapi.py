"""The OpenAPI document, made of the views' contracts."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, cast

from flask import Blueprint, Flask, Response, current_app, json, request
from flask.blueprints import BlueprintSetupState
from pydantic.json_schema import models_json_schema

from api.contract import Answer, Contract, EventStream, Part, contract, contract_of
from services.answers import ProblemDocument
from services.spec import TrainSpec

blueprint = Blueprint("openapi", __name__)
REFERENCE = "#/components/schemas/{model}"
Model = type[Any]
References = Mapping[Model, dict[str, Any]]


class Documents:
    """What is told of the whole API; half a second of work, done when somebody first asks."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    @cached_property
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return document(self._app)

    @cached_property
    def openapi_text(self) -> str:
        """The same as JSON."""
        return json.dumps(self.openapi)

    @cached_property
    def spec_schema_text(self) -> str:
        """The JSON Schema of a spec."""
        return json.dumps(TrainSpec.model_json_schema())


@blueprint.record
def _keep(state: BlueprintSetupState) -> None:
    state.app.extensions["openapi"] = Documents(cast(Flask, state.app))


def documents() -> Documents:
    """Those of the application that answers this request."""
    return cast(Documents, current_app.extensions["openapi"])


@blueprint.get("/openapi.json")
@contract("This document", {200: "application/json"}, is_open=True)
def openapi() -> Response:
    """OpenAPI 3.1."""
    return _json(documents().openapi_text)


@blueprint.get("/v1/schema/spec")
@contract("JSON Schema of a spec", {200: "application/json"}, is_open=True)
def spec_schema() -> Response:
    """JSON Schema 2020-12, for editors and forms."""
    return _json(documents().spec_schema_text)


def _json(text: str) -> Response:
    response = Response(text, content_type="application/json")
    response.add_etag()
    response.make_conditional(request)
    return response


def document(app: Flask) -> dict[str, Any]:
    """Every route with a contract."""
    routes = [
        (rule, declared, app.view_functions[rule.endpoint].__doc__ or "")
        for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
        if (declared := contract_of(app.view_functions[rule.endpoint])) is not None
    ]
    references, schemas = _schemas([declared for _, declared, _ in routes])
    paths: dict[str, dict[str, Any]] = {}
    for rule, declared, description in routes:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            operation = _Operation(declared, references).describe(sorted(rule.arguments))
            operation["operationId"] = rule.endpoint.replace(".", "_")
            operation["tags"] = [rule.endpoint.split(".")[0]]
            operation["description"] = inspect.cleandoc(description)
            paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trainshed", "version": "1", "description": "Training of Keras MLPs as a service."},
        "tags": _tags(app, {rule.endpoint.split(".")[0] for rule, _, _ in routes}),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _tags(app: Flask, used: set[str]) -> list[dict[str, str]]:
    """One a blueprint, in the order in which they were registered."""
    return [
        {"name": name, "description": (sys.modules[part.import_name].__doc__ or "").split("\n")[0]}
        for name, part in app.blueprints.items()
        if name in used
    ]


def _schemas(contracts: Iterable[Contract]) -> tuple[References, dict[str, Any]]:
    """Where each model's schema stands in the document, and the schemas."""
    asked: set[Model] = set()
    answered: set[Model] = {ProblemDocument}
    for declared in contracts:
        parts = (declared.multipart or {}).values()
        asked |= {model for model in (declared.body, *(part.model for part in parts)) if model is not None}
        answered |= {model for answers in declared.answers.values() for model in _models(answers)}
    # In a body what has a default may be left out; in an answer it is there.
    modes: list[tuple[Model, Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in sorted(asked, key=str)),
        *((model, "serialization") for model in sorted(answered - asked, key=str)),
    ]
    references, schemas = models_json_schema(modes, ref_template=REFERENCE)
    return {model: schema for (model, _), schema in references.items()}, schemas.get("$defs", {})


def _models(answers: Answer | tuple[Answer, ...]) -> Iterator[Model]:
    for answer in _choices(answers):
        if isinstance(answer, EventStream):
            yield from answer.events.values()
        elif isinstance(answer, type):
            yield answer


def _choices(answers: Answer | tuple[Answer, ...]) -> tuple[Answer, ...]:
    return answers if isinstance(answers, tuple) else (answers,)


class _Operation:
    """Describes one method of one path."""

    def __init__(self, declared: Contract, references: References) -> None:
        self._declared = declared
        self._references = references

    def describe(self, path: list[str]) -> dict[str, Any]:
        declared = self._declared
        answers = {str(status): self._response(answer) for status, answer in declared.answers.items()}
        answers["default"] = {
            "description": "A problem.",
            "content": {"application/problem+json": {"schema": self._references[ProblemDocument]}},
        }
        operation: dict[str, Any] = {
            "summary": declared.summary,
            "parameters": [*map(_path_parameter, path), *_query(declared), *_headers(declared)],
            "responses": answers,
            "security": [] if declared.is_open else [{"key": []}],
        }
        if contents := self._bodies():
            operation["requestBody"] = {"required": True, "content": contents}
        return operation

    def _bodies(self) -> dict[str, Any]:
        contents: dict[str, Any] = {}
        if (body := self._declared.body) is not None:
            kinds = ["application/json"] + (["application/yaml"] if body is TrainSpec else [])
            contents |= {kind: {"schema": self._references[body]} for kind in kinds}
        if (parts := self._declared.multipart) is not None:
            contents["multipart/form-data"] = self._form(parts)
        return contents

    def _form(self, parts: Mapping[str, Part]) -> dict[str, Any]:
        """In OpenAPI 3.1 a file has no type but a media type; that of a document stands under `encoding`."""
        documents = [name for name, part in parts.items() if part.model is not None]
        return {
            "schema": {
                "type": "object",
                "properties": {name: self._part(part) for name, part in parts.items()},
                "required": [name for name, part in parts.items() if part.is_required],
            },
            "encoding": {name: {"contentType": "application/json"} for name in documents},
        }

    def _part(self, part: Part) -> dict[str, Any]:
        if part.model is not None:
            return {"description": part.description, **self._references[part.model]}
        return {"description": part.description, "contentMediaType": "application/octet-stream"}

    def _response(self, answers: Answer | tuple[Answer, ...]) -> dict[str, Any]:
        described = [self._described(answer) for answer in _choices(answers) if answer is not None]
        if not described:
            return {"description": "No body."}
        contents = {media_type: content for _, media_type, content in described}
        return {"description": described[0][0], "content": contents}

    def _described(self, answer: Model | EventStream | str) -> tuple[str, str, dict[str, Any]]:
        if isinstance(answer, str):
            return "A file or text.", answer, {}
        if isinstance(answer, EventStream):
            return "Server-sent events.", "text/event-stream", self._stream(answer)
        return (answer.__doc__ or "").split("\n")[0], "application/json", {"schema": self._references[answer]}

    def _stream(self, stream: EventStream) -> dict[str, Any]:
        """A stream is text to OpenAPI 3.1; what each event's data is stands beside it."""
        names = ", ".join(f"`{name}`" for name in stream.events)
        schema = {"type": "string", "description": f"Server-sent events: {names}."}
        data = {name: self._references[model] for name, model in stream.events.items()}
        return {"schema": schema, "x-event-data": data}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(declared: Contract) -> list[dict[str, Any]]:
    if declared.query is None:
        return []
    schema = declared.query.model_json_schema()
    definitions = schema.get("$defs", {})
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": facts.get("description", ""),
            "schema": _inline(
                {key: value for key, value in facts.items() if key != "description"}, definitions
            ),
        }
        for name, facts in schema["properties"].items()
    ]


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return {key: _inline(value, definitions) for key, value in schema.items()}
    return [_inline(item, definitions) for item in schema] if isinstance(schema, list) else schema


def _headers(declared: Contract) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in declared.headers.items()
    ]

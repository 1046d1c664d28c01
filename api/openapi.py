"""The OpenAPI document, made of the views' contracts."""

import re
from typing import Any, Literal

from flask import Blueprint, Flask, Response, current_app, json
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.contract import Answer, Body, Contract, contract, contract_of
from services.answers import ProblemDocument
from services.spec import TrainSpec

blueprint = Blueprint("openapi", __name__)
REFERENCE = "#/components/schemas/{model}"


@blueprint.get("/openapi.json")
@contract("This document", {200: "application/json"})
def openapi() -> Response:
    """OpenAPI 3.1."""
    return Response(json.dumps(document(current_app)), content_type="application/json")


@blueprint.get("/v1/schema/spec")
@contract("JSON Schema of a spec", {200: "application/json"})
def spec_schema() -> Response:
    """JSON Schema 2020-12, for editors and forms."""
    return Response(json.dumps(TrainSpec.model_json_schema()), content_type="application/json")


def document(app: Flask) -> dict[str, Any]:
    """Every route with a contract."""
    paths: dict[str, dict[str, Any]] = {}
    models: set[type[BaseModel]] = {ProblemDocument}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        declared = contract_of(app.view_functions[rule.endpoint])
        if declared is None:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        for method in methods:
            description = app.view_functions[rule.endpoint].__doc__ or ""
            operation = _operation(rule.endpoint, declared, sorted(rule.arguments), description)
            paths.setdefault(path, {})[method.lower()] = operation
        models |= _models(declared)
    _, schemas = models_json_schema(
        [(model, _mode(model)) for model in sorted(models, key=str)], ref_template=REFERENCE
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trainshed", "version": "1", "description": "Training of Keras MLPs as a service."},
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models(declared: Contract) -> set[type[BaseModel]]:
    every = (answer for answers in declared.answers.values() for answer in _choices(answers))
    answers = {answer for answer in every if isinstance(answer, type)}
    return answers | ({declared.body} if declared.body else set())


def _choices(answers: Answer | tuple[Answer, ...]) -> tuple[Answer, ...]:
    return answers if isinstance(answers, tuple) else (answers,)


def _mode(model: type[BaseModel]) -> Literal["validation", "serialization"]:
    # In a body what has a default may be left out; in an answer it is there.
    return "validation" if issubclass(model, Body | TrainSpec) else "serialization"


def _operation(endpoint: str, declared: Contract, path: list[str], description: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": declared.summary,
        "description": description,
        "parameters": [*map(_path_parameter, path), *_query(declared), *_headers(declared)],
        "responses": {str(status): _response(answer) for status, answer in declared.answers.items()},
        "security": [] if declared.is_open else [{"key": []}],
    }
    operation["responses"]["default"] = {
        "description": "A problem.",
        "content": {"application/problem+json": {"schema": _reference(ProblemDocument)}},
    }
    if declared.body is not None:
        kinds = (
            ("application/json", "application/yaml") if declared.body is TrainSpec else ("application/json",)
        )
        schema = {"schema": _reference(declared.body)}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, schema)}
    return operation


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


def _response(answers: Answer | tuple[Answer, ...]) -> dict[str, Any]:
    described = [_described(answer) for answer in _choices(answers) if answer is not None]
    if not described:
        return {"description": "No body."}
    contents = {media_type: content for _, media_type, content in described}
    return {"description": described[0][0], "content": contents}


def _described(answer: type[BaseModel] | str) -> tuple[str, str, dict[str, Any]]:
    if isinstance(answer, str):
        return "A file or text.", answer, {}
    return (answer.__doc__ or "").split("\n")[0], "application/json", {"schema": _reference(answer)}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}

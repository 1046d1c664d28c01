"""The reference page: every route and schema, made of the OpenAPI document. No scripts, no other hosts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, render_template, request, send_file
from flask.blueprints import BlueprintSetupState
from markupsafe import Markup, escape

from api.contract import contract
from api.openapi import documents

blueprint = Blueprint("reference", __name__)

STYLE = Path(__file__).parent / "templates" / "reference.css"
# Which constraints of JSON Schema a reader wants to see, and in which words.
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
}
LARGEST_SHOWN = 3e38
TAG_TITLES = {"openapi": "This document", "histories": "History"}


@blueprint.record
def _keep(state: BlueprintSetupState) -> None:
    state.app.extensions["reference"] = _Reference()


class _Reference:
    """The page, made when somebody first asks for it."""

    @cached_property
    def page(self) -> str:
        document = documents().openapi
        schemas = document["components"]["schemas"]
        return render_template(
            "reference.html",
            info=document["info"],
            groups=list(_groups(document)),
            schemas=[_Schema(name, schemas[name]) for name in sorted(schemas, key=_title_of(schemas))],
        )


@blueprint.get("/docs")
@contract("This reference as a page", {200: "text/html"}, is_open=True)
def page() -> Response:
    """Every route with its parameters, bodies and an example."""
    response = Response(current_app.extensions["reference"].page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    )
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/docs/style.css")
@contract("The page's style", {200: "text/css"}, is_open=True)
def style() -> Response:
    """One style sheet, light and dark."""
    return send_file(STYLE, mimetype="text/css", conditional=True)


@dataclass(frozen=True)
class _Group:
    """Routes of one part of the API."""

    id: str
    title: str
    description: Markup
    operations: list["_Operation"]


def _groups(document: Mapping[str, Any]) -> Iterator[_Group]:
    operations = [
        _Operation(method.upper(), path, facts, document["components"]["schemas"])
        for path, item in document["paths"].items()
        for method, facts in item.items()
    ]
    for tag in document["tags"]:
        name = tag["name"]
        yield _Group(
            id=f"tag-{name}",
            title=TAG_TITLES.get(name, name.capitalize()),
            description=_marked(tag["description"]),
            operations=[operation for operation in operations if name in operation.facts["tags"]],
        )


class _Operation:
    """One method of one path, as the page shows it."""

    def __init__(self, method: str, path: str, facts: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
        self.method = method
        self.path = path
        self.facts = facts
        self._schemas = schemas

    @property
    def id(self) -> str:
        return str(self.facts["operationId"])

    @property
    def description(self) -> Markup:
        return _marked(self.facts["description"])

    @property
    def is_open(self) -> bool:
        return not self.facts["security"]

    @property
    def parameters(self) -> list["_Field"]:
        return [
            _Field(one["name"], {**one["schema"], "description": one.get("description", "")}, where=one["in"],
                   is_required=one["required"])
            for one in self.facts["parameters"]
        ]  # fmt: skip

    @property
    def bodies(self) -> list[tuple[str, Markup | None, list["_Field"]]]:
        """Media type, link to the schema, and the parts of a form."""
        contents = self.facts.get("requestBody", {}).get("content", {})
        return [
            (kind, None, _fields(content["schema"]))
            if kind == "multipart/form-data"
            else (kind, _type(content["schema"]), [])
            for kind, content in contents.items()
        ]

    @property
    def responses(self) -> list[tuple[str, str, list[tuple[str, Markup | None]], list[tuple[str, Markup]]]]:
        """Status, description, (media type, schema) of each body, and (event, data) of a stream."""
        return [
            (
                "4xx, 5xx" if status == "default" else status,
                answer["description"],
                [(kind, _link(content.get("schema"))) for kind, content in answer.get("content", {}).items()],
                [
                    (event, _type(schema))
                    for content in answer.get("content", {}).values()
                    for event, schema in content.get("x-event-data", {}).items()
                ],
            )
            for status, answer in self.facts["responses"].items()
        ]

    @property
    def example(self) -> str:
        """A command that asks for it."""
        sent = self._sent()
        # curl's own choice: POST where there is something to send, GET otherwise.
        method = "" if self.method == ("POST" if sent else "GET") else f" -X {self.method}"
        live = " --no-buffer" if self._is_live else ""
        key = "" if self.is_open else ' -H "Authorization: Bearer $TRAINSHED_KEY"'
        address = self.path.replace("{", "$").replace("}", "")
        accept = ["-H 'Accept: text/event-stream'"] if self._is_live else []
        return " \\\n  ".join([f"curl{method}{live}{key}", *accept, *sent, f'"$TRAINSHED_URL{address}"'])

    @property
    def _is_live(self) -> bool:
        answers = self.facts["responses"].values()
        return any("text/event-stream" in answer.get("content", {}) for answer in answers)

    def _sent(self) -> list[str]:
        contents = self.facts.get("requestBody", {}).get("content", {})
        if "application/yaml" in contents:
            return ["-H 'Content-Type: application/yaml'", "--data-binary @spec.yaml"]
        if "application/json" in contents:
            example = json.dumps(_sample(contents["application/json"]["schema"], self._schemas))
            return ["-H 'Content-Type: application/json'", f"-d '{example}'"]
        if "multipart/form-data" in contents:
            form = contents["multipart/form-data"]
            return [_part(name, form, self._schemas) for name in form["schema"]["required"]]
        return []


def _part(name: str, form: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if name not in form["encoding"]:
        return f"-F {name}=@data.csv"
    return f"-F '{name}={json.dumps(_sample(form['schema']['properties'][name], schemas))}'"


def _sample(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """The least that the schema accepts in shape; values are placeholders."""
    if "$ref" in schema:
        return _sample(schemas[_name_of(schema)], schemas)
    for key in ("examples", "enum", "anyOf", "oneOf"):
        if schema.get(key):
            first = schema[key][0]
            return _sample(first, schemas) if key.endswith("Of") else first
    if "const" in schema or schema.get("type") != "object":
        plain = {"integer": max(1, schema.get("minimum", 1)), "number": 0.5, "boolean": True, "array": []}
        return schema.get("const", plain.get(schema.get("type", ""), "…"))
    properties, required = schema.get("properties", {}), schema.get("required", [])
    shown = required or [name for name in list(properties)[:1] if "default" in properties[name]]
    return {name: _sample(properties[name], schemas) for name in shown}


@dataclass(frozen=True)
class _Field:
    """A parameter, a property or a part of a form."""

    name: str
    facts: Mapping[str, Any]
    where: str = ""
    is_required: bool = False

    @property
    def type(self) -> Markup:
        return _type(self.facts)

    @property
    def description(self) -> Markup:
        return _marked(self.facts.get("description", ""))

    @property
    def notes(self) -> list[str]:
        found = [
            words.format(self.facts[key])
            for key, words in LIMITS.items()
            if _is_worth_showing(self.facts, key)
        ]
        if not self.is_required and self.facts.get("default") is not None:
            found.append(f"default {json.dumps(self.facts['default'], ensure_ascii=False)}")
        return found


def _is_worth_showing(facts: Mapping[str, Any], key: str) -> bool:
    value = facts.get(key)
    return value is not None and not (isinstance(value, int | float) and abs(value) >= LARGEST_SHOWN)


class _Schema:
    """A named schema as the page shows it."""

    def __init__(self, name: str, facts: Mapping[str, Any]) -> None:
        self.id = f"schema-{name}"
        self.title = _title(name, facts)
        self.description = _marked(facts.get("description", ""))
        self.fields = _fields(facts)
        self.type = _type(facts) if not self.fields and facts.get("type") != "object" else None


def _fields(schema: Mapping[str, Any]) -> list[_Field]:
    required = schema.get("required", [])
    return [
        _Field(name, facts, is_required=name in required)
        for name, facts in schema.get("properties", {}).items()
    ]


def _title_of(schemas: Mapping[str, Any]) -> Any:
    return lambda name: _title(name, schemas[name]).lower()


def _title(name: str, facts: Mapping[str, Any]) -> str:
    """Losses and metrics share some names; their schemas' names carry a path then."""
    *path, last = name.split("__")
    return f"{facts.get('title', last)} ({path[-1].removesuffix('es').removesuffix('s')})" if path else last


def _name_of(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rsplit("/", 1)[-1]


def _link(schema: Mapping[str, Any] | None) -> Markup | None:
    return None if not schema or "$ref" not in schema else _type(schema)


def _type(schema: Mapping[str, Any]) -> Markup:
    """A schema in one line, with links to those it names."""
    if "$ref" in schema:
        name = _name_of(schema)
        return Markup('<a href="#schema-{}">{}</a>').format(name, name.rsplit("__", 1)[-1])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return Markup(" or ").join(dict.fromkeys(_type(one) for one in schema[key]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(" | ").join(Markup("<code>{}</code>").format(json.dumps(value)) for value in values)
    return _plain_type(schema)


def _plain_type(schema: Mapping[str, Any]) -> Markup:
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or {"anyOf": schema.get("prefixItems", [{}])}
        return Markup("list of {}").format(_type(items))
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return Markup("object of {}").format(_type(schema["additionalProperties"]))
    if "contentMediaType" in schema:
        return Markup("file")
    return escape(schema.get("format") or kind or "any")


def _marked(text: str) -> Markup:
    """Plain text whose words between backticks are code, and whose empty lines part paragraphs."""
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    return Markup("").join(Markup("<p>{}</p>").format(_coded(paragraph)) for paragraph in paragraphs)


def _coded(text: str) -> Markup:
    pieces = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 and place + 1 < len(pieces) else escape(piece)
        for place, piece in enumerate(pieces)
    )

"""Request bodies, JSON or YAML, read into plain data: strict, bounded, and without YAML's surprises.

YAML scalars follow YAML 1.2, numbers in decimal only: `1e-3` is a number; `on`, `no`, `12:30:00`,
`2024-01-01`, `0755` and `1_000` are text. Keys are always text, so `{0: 1.5}` works where class ids are keys.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from services.problems import DocumentUnreadable

MAX_DEPTH = 20
MAX_NODES = 10_000
MAX_DIGITS = 40
JSON_TYPES = frozenset({"application/json"})
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"})

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
_PLAIN_WORDS = {
    spelling: value for word, value in _WORDS.items() for spelling in (word, word.title(), word.upper())
}
# libyaml is ten times as fast where the wheel has it; both yield the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(body: bytes, content_type: str | None, *, limit: int, most_values: int = MAX_NODES) -> Any:
    """The body as dicts with text keys, lists, text, numbers, booleans and None. Raises DocumentUnreadable.

    `limit` is in bytes; YAML holds MAX_NODES values at most. Without a content type a body that begins
    with `{` is JSON, any other YAML.
    """
    if len(body) > limit:
        raise DocumentUnreadable(
            "too_large", f"The body has {len(body):,} bytes; at most {limit:,} are read."
        )
    text = _decoded(body)
    document = _read_json(text) if _is_json(text, content_type) else _read_yaml(text)
    check_plain(document, most_values)
    return document


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        column = error.start - body.rfind(b"\n", 0, error.start)
        raise DocumentUnreadable(
            "not_utf8", "The body is not UTF-8 text.", line=line, column=column
        ) from None


def _is_json(text: str, content_type: str | None) -> bool:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type in JSON_TYPES or media_type.endswith("+json"):
        return True
    if media_type in YAML_TYPES or media_type.endswith("+yaml"):
        return False
    if media_type:
        raise DocumentUnreadable(
            "unsupported_media_type", f"{media_type} is not read; send application/json or application/yaml."
        )
    return text.lstrip().startswith("{")


def _read_json(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except json.JSONDecodeError as error:
        message = f"This is not JSON: {error.msg}."
        raise DocumentUnreadable("not_json", message, line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise _too_deep() from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DocumentUnreadable("duplicate_key", f"The key {_shown(key)} is given twice in one object.")
        found[key] = value
    return found


def _no_constant(name: str) -> float:
    raise DocumentUnreadable("not_finite", f"{name} is not a number that a spec can hold.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise DocumentUnreadable("not_finite", f"{_shown(text)} is too large for a number.")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise DocumentUnreadable("not_finite", f"A whole number with {len(text)} digits is too large.")
    return int(text)


def _read_yaml(text: str) -> Any:
    try:
        return _Composer().document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        line, column = _place(error.problem_mark)
        message = f"This is not YAML: {error.problem or 'it ends too early'}."
        raise DocumentUnreadable("not_yaml", message, line=line, column=column) from None
    except yaml.YAMLError as error:
        raise DocumentUnreadable("not_yaml", f"This is not YAML: {str(error).splitlines()[0]}.") from None


class _Composer:
    """Builds plain data from YAML's events, so that no constructor, tag or alias is ever at work."""

    def __init__(self) -> None:
        self._stack: list[tuple[Any, list[str]]] = []
        self._nodes = 0
        self._root: Any = None

    def document(self, events: Iterator[yaml.Event]) -> Any:
        documents = 0
        for event in events:
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise _at(event, "not_yaml", "There is a second document; one is expected.")
            self._take(event)
        return self._root

    def _take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.NodeEvent):
            self._refuse_magic(event)
            self._count(event)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._stack.pop()

    def _refuse_magic(self, event: yaml.NodeEvent) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _at(event, "yaml_alias", "Anchors (&) and aliases (*) are not read; write the value out.")
        if getattr(event, "tag", None) is not None:
            raise _at(event, "yaml_tag", f"The tag {event.tag} is not read; write plain data.")  # type: ignore[attr-defined]

    def _count(self, event: yaml.Event) -> None:
        self._nodes += 1
        if self._nodes > 2 * MAX_NODES:  # keys are nodes here, too
            raise _too_many()

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._wants_key():
            self._take_key(event)
        else:
            self._put(_value_of(event))

    def _open(self, event: yaml.Event) -> None:
        if self._wants_key():
            raise _at(event, "bad_key", "A key must be text; here a list or an object stands as a key.")
        if len(self._stack) == MAX_DEPTH:
            raise _too_deep(event)
        container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(container)
        self._stack.append((container, []))

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1][0], dict) and not self._stack[-1][1]

    def _take_key(self, event: yaml.ScalarEvent) -> None:
        container, key = self._stack[-1]
        if event.value in container:
            raise _at(event, "duplicate_key", f"The key {_shown(event.value)} is given twice in one object.")
        key.append(event.value)

    def _put(self, value: Any) -> None:
        if not self._stack:
            self._root = value
            return
        container, key = self._stack[-1]
        if isinstance(container, dict):
            container[key.pop()] = value
        else:
            container.append(value)


def _value_of(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    # Plain text has the style None from PyYAML's own parser, and '' from libyaml's.
    if event.style:
        return text
    if text in _PLAIN_WORDS:
        return _PLAIN_WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise _at(event, "not_finite", f"{text} is not a number that a spec can hold.")
    try:
        return _number_or_text(text)
    except DocumentUnreadable as error:
        raise _at(event, error.code, str(error)) from None


def _number_or_text(text: str) -> float | int | str:
    if _WHOLE.fullmatch(text):
        return _whole(text)
    return _finite(text) if _NUMBER.fullmatch(text) else text


def check_plain(document: Any, most_values: int = MAX_NODES) -> None:
    """Raise DocumentUnreadable for what is too large, too deep, or holds text that cannot be stored."""
    nodes = 0
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if nodes > most_values:
            raise _too_many(most_values)
        if isinstance(node, dict | list):
            if depth == MAX_DEPTH:
                raise _too_deep()
            waiting += [(child, depth + 1) for child in (node.values() if isinstance(node, dict) else node)]
        for text in node if isinstance(node, dict) else [node]:
            _check_text(text)


def _check_text(value: Any) -> None:
    # Neither a NUL nor half of a surrogate pair can be stored by every database.
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise DocumentUnreadable(
            "bad_text", "A text holds a character that cannot be stored (NUL or a lone surrogate)."
        )


def _at(event: yaml.Event, code: str, message: str) -> DocumentUnreadable:
    line, column = _place(event.start_mark)
    return DocumentUnreadable(code, message, line=line, column=column)


def _place(mark: Any) -> tuple[int | None, int | None]:
    return (mark.line + 1, mark.column + 1) if mark else (None, None)


def _too_many(most_values: int = MAX_NODES) -> DocumentUnreadable:
    return DocumentUnreadable("too_many_values", f"The document holds more than {most_values:,} values.")


def _too_deep(event: yaml.Event | None = None) -> DocumentUnreadable:
    message = f"Objects and lists are nested more than {MAX_DEPTH} deep."
    return _at(event, "too_deep", message) if event else DocumentUnreadable("too_deep", message)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

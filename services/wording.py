"""Turns pydantic's errors about a spec into problems a beginner can act on."""

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from services.problems import Problem, pointer_to
from services.spec import TrainSpec
from services.vocabulary import Component, Part, key_of, names_of, snake_case

MAX_SHOWN = 200

WHY_NOT = {
    "glu": "`glu` halves the number of outputs, which Keras's Dense does not account for",
    "threshold": "`threshold` needs arguments, which an activation's name cannot give",
}

WANTED = {
    "int": "a whole number, such as 32",
    "float": "a number, such as 0.01",
    "bool": "`true` or `false`",
    "string": "text",
    "model": "an object, such as {key: value}",
    "dict": "an object, such as {key: value}",
    "tuple": "a list, such as [a, b]",
}

LIMITS = {
    "greater_than": ("gt", "greater than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "{} or less"),
}


@dataclass(frozen=True)
class Place:
    """Where in the sent document an error belongs."""

    path: tuple[str | int, ...]
    value: Any
    owner: type[Part] | None
    """The class of the object that the last key is in."""
    options: tuple[type[Part], ...]
    """The classes that the value itself may be."""
    root: type[Part]
    """The class of the whole document."""

    @property
    def key(self) -> str:
        """The last key of the path, for sentences."""
        if not self.path:
            return self.root.called
        *before, last = self.path
        return f"`{last}`" if isinstance(last, str) else f"entry {last} of `{before[-1]}`"


def problems_of(document: object, error: ValidationError, root: type[Part] = TrainSpec) -> list[Problem]:
    """One problem for each of pydantic's errors, at the place in the document that was sent."""
    details = error.errors(include_url=False)
    return [_problem(document, item, root) for item in details if not _follows(item, details)]


def _follows(error: ErrorDetails, others: Sequence[ErrorDetails]) -> bool:
    """Whether it only follows from others: pydantic counts a list without the entries that are wrong."""
    if error["type"] == "default_factory_not_called":
        return True
    place = error["loc"]
    deeper = (other["loc"] for other in others if other is not error)
    return error["type"] == "too_short" and any(loc[: len(place)] == place for loc in deeper)


def _problem(document: object, error: ErrorDetails, root: type[Part]) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    at = _walk(document, error["loc"], context.get("at", ()), root)
    if kind == "missing":
        return _missing(at, str(error["loc"][-1]))
    if kind == "extra_forbidden":
        return _unknown_key(at, str(error["loc"][-1]))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_type(at)
    if kind in ("literal_error", "enum"):
        return _unknown_name(at, context["expected"])
    if kind in LIMITS:
        key, phrase = LIMITS[kind]
        return _out_of_range(
            at, phrase.format(f"{context[key]:,}" if context[key] >= 10_000 else context[key])
        )
    return _other(at, error)


def _other(at: Place, error: ErrorDetails) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "which_split":
        ways = "{last: 5000}, {count: 1000} or {fraction: 0.2}"
        message = f"{_capital(at.key)} is cut in exactly one way, by `last`, `count` or `fraction`."
        return _at(at, "which_split", message, ways)
    if kind == "string_pattern_mismatch":
        return _bad_name(at)
    if kind in ("finite_number", "int_parsing_size"):
        return _out_of_range(at, "a finite number")
    if kind.startswith(("too_long", "too_short", "string_too")):
        return _wrong_size(at, kind, context)
    wanted = WANTED.get(kind.partition("_")[0])
    if wanted and "expected" not in context:
        return _wrong_type(at, wanted)
    sentence = error["msg"][:1].upper() + error["msg"][1:] + "."
    return _at(at, kind, sentence, context.get("expected"))


def _walk(
    document: object, location: Sequence[str | int], further: Sequence[str | int], root: type[Part]
) -> Place:
    path: list[str | int] = []
    node: Any = document
    owner: type[Part] | None = None
    options: tuple[type[Part], ...] = (root,)
    for step in location:
        if isinstance(step, str):
            if len(options) > 1:  # not a key: pydantic names the class it chose
                options = tuple(option for option in options if _tag(option) == step)
                continue
            owner = options[0] if options else None
            options = _options(owner, step)
        if step != "[key]" and not isinstance(node, str):
            path.append(step)
            node = _child(node, step)
    for step in further:
        path.append(step)
        node = _child(node, step)
    return Place(tuple(path), node, owner, options, root)


def _tag(part: type[Part]) -> str:
    fields = part.model_fields
    return str(fields["type"].default) if "type" in fields else next(iter(fields))


def _options(owner: type[Part] | None, key: str) -> tuple[type[Part], ...]:
    field = owner.model_fields.get(key) if owner else None
    return tuple(_parts_in(field.annotation)) if field else ()


def _parts_in(annotation: Any) -> list[type[Part]]:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Part) else []
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    if get_origin(annotation) is Literal:
        return []
    return [part for argument in inner for part in _parts_in(argument)]


def _child(node: Any, step: str | int) -> Any:
    if isinstance(node, Mapping):
        return node.get(step)
    if isinstance(node, Sequence) and isinstance(step, int) and step < len(node):
        return node[step]
    return None


def _at(at: Place, code: str, message: str, expected: str | None) -> Problem:
    return Problem(code, pointer_to(*at.path), message, received=shown(at.value), expected=expected)


def _missing(at: Place, key: str) -> Problem:
    if at.owner and issubclass(at.owner, Component):
        whose = at.owner.__name__
    else:
        whose = f"`{at.path[-2]}`" if len(at.path) > 1 else _capital(at.root.called)
    return _at(at, "missing_key", f"{whose} needs `{key}`, which is not there.", _purpose(at.owner, key))


def _purpose(owner: type[Part] | None, key: str) -> str:
    field = owner.model_fields.get(key) if owner else None
    return field.description.rstrip(".") if field and field.description else f"a value for `{key}`"


def _unknown_key(at: Place, key: str) -> Problem:
    owner = at.owner or at.root
    whose = owner.__name__ if issubclass(owner, Component) else _holder(at)
    if key in owner.refused:
        return _at(at, "refused_key", f"{whose} does not take `{key}`: {owner.refused[key]}.", "leave it out")
    keys = list(owner.model_fields)
    message = f"{whose} has no `{key}`.{_did_you_mean(nearest(key, keys))}"
    return _at(at, "unknown_key", message, f"one of: {', '.join(keys)}")


def _holder(at: Place) -> str:
    keys = [step for step in at.path[:-1] if isinstance(step, str)]
    return f"`{keys[-1]}`" if keys else _capital(at.root.called)


def _group(at: Place) -> str:
    return next(f"`{step}`" for step in reversed(at.path) if isinstance(step, str))


def _unknown_type(at: Place) -> Problem:
    types = [_tag(option) for option in at.options]
    sent = at.value.get("type") if isinstance(at.value, Mapping) else at.value
    expected = f"one of: {', '.join(types)}"
    if not isinstance(sent, str):
        if isinstance(at.value, Mapping) and "type" not in at.value:
            return _at(
                at,
                "missing_key",
                f"An object in {_group(at)} needs `type`, the class it stands for.",
                expected,
            )
        return _at(
            at, "wrong_type", f"{at.key} is {_kind(sent)}, where a name or an object is needed.", expected
        )
    spellings = {name: _tag(o) for o in at.options for name in _spellings(o)}
    close = nearest(sent, list(spellings))
    message = f"`{shown(sent)}` is not known for {_group(at)}.{_did_you_mean(spellings.get(close or ''))}"
    path = (*at.path, "type") if isinstance(at.value, Mapping) else at.path
    return Problem("unknown_type", pointer_to(*path), message, received=shown(sent), expected=expected)


def _spellings(option: type[Part]) -> list[str]:
    names = names_of(option) if issubclass(option, Component) else (_tag(option),)
    return [spelling for name in names for spelling in (name, snake_case(name))]


def _unknown_name(at: Place, expected: str) -> Problem:
    names = re.findall(r"'([^']*)'", expected)
    wanted = f"one of: {', '.join(names)}"
    if not isinstance(at.value, str):
        return _at(at, "wrong_type", f"{at.key} is {_kind(at.value)}, where a name is needed.", wanted)
    why = f" {WHY_NOT[at.value]}." if at.value in WHY_NOT else _did_you_mean(nearest(at.value, names))
    return _at(at, "unknown_name", f"`{shown(at.value)}` is not known for {_group(at)}.{why}", wanted)


def _out_of_range(at: Place, wanted: str) -> Problem:
    message = f"{_capital(at.key)} is {shown(at.value)}, and it must be {wanted}."
    return _at(at, "out_of_range", message, wanted)


def _figure(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) and limit >= 10_000 else f"{limit:g}"


def _wrong_type(at: Place, wanted: str) -> Problem:
    hint = ""
    if isinstance(at.value, str) and wanted.startswith(("a whole", "a number")):
        hint = (
            " A number is written without quotes, spaces or thousands marks." if _has_digits(at.value) else ""
        )
    if wanted == WANTED["string"] and not isinstance(at.value, dict | list):
        hint = " Put it in quotes."
    message = f"{_capital(at.key)} is {_kind(at.value)}, where {wanted.partition(',')[0]} is needed.{hint}"
    return _at(at, "wrong_type", message, wanted)


def _has_digits(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _wrong_size(at: Place, kind: str, context: Mapping[str, Any]) -> Problem:
    items = "characters" if kind.startswith("string") else "entries"
    has_too_many = "max_length" in context
    limit = f"{context['max_length']} or fewer" if has_too_many else f"{context['min_length']} or more"
    message = f"{_capital(at.key)} has {len(at.value)} {items}, and it must have {limit}."
    return _at(at, "too_many" if has_too_many else "too_few", message, f"{limit} {items}")


def _bad_name(at: Place) -> Problem:
    rules = {
        "`dataset`": "lower-case letters, digits, `_`, `-`, `.`; for a version @ and 8 to 64 hex digits",
        "`name`": "a letter, then letters, digits or `_`; at most 64 characters",
    }
    wanted = rules.get(at.key, "a name that Keras has")
    return _at(
        at, "bad_name", f"{_capital(at.key)} is {shown(at.value)!r}, which cannot be a name here.", wanted
    )


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant, or None."""
    keys = {key_of(known): known for known in reversed(names)}
    close = difflib.get_close_matches(key_of(name[:100]), list(keys), n=1, cutoff=0.6)
    return keys[close[0]] if close else None


def _did_you_mean(name: str | None) -> str:
    return f" Did you mean `{name}`?" if name else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _kind(value: object) -> str:
    if value is None:
        return "empty (null)"
    if isinstance(value, bool | int | float):
        return f"the {'value' if isinstance(value, bool) else 'number'} {json.dumps(value)}"
    if isinstance(value, str):
        return f"the text {shown(value)!r}"
    return "an object" if isinstance(value, Mapping) else "a list"


def shown(value: Any) -> Any:
    """What came, as plain data that is short and that JSON can carry."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else "a very large number"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."

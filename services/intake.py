"""From a document to a checked spec: its dataset looked up, its meaning checked, its seed fixed."""

import json
import secrets
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sqlalchemy.orm import Session

from services import datasets
from services.checking import check
from services.documents import check_plain
from services.errors import NotFound
from services.problems import Problem, SpecInvalid
from services.spec import MAX_SEED, TrainSpec


@dataclass(frozen=True)
class Checked:
    """A spec that may be queued, with every default and its seed."""

    spec: TrainSpec
    known: datasets.Known


def examine(session: Session, document: object) -> Checked:
    """Check a document against the dataset it names; raises SpecInvalid with all problems at once."""
    known = _dataset(session, document)
    if isinstance(known, Problem):
        raise SpecInvalid((known, *_other_problems(document)))
    spec = check(_with_own_validation(document, known), known.schema)
    seed = secrets.randbelow(MAX_SEED) if spec.seed is None else spec.seed
    return Checked(spec.with_seed(seed), known)


def _with_own_validation(document: object, known: datasets.Known) -> object:
    """With the dataset's own validation rows, where it has some and the document does not say which."""
    rows = known.schema.rows.validation
    split = document.get("split", {}) if isinstance(document, dict) else None
    if not rows or not isinstance(document, dict) or not isinstance(split, dict) or "validation" in split:
        return document
    return document | {"split": split | {"validation": {"last": rows}}}


def _dataset(session: Session, document: object) -> datasets.Known | Problem:
    given = document.get("dataset") if isinstance(document, dict) else None
    if not isinstance(given, str):
        # What is wrong with it is said by the spec's own check.
        raise SpecInvalid(tuple(_other_problems(document)))
    name, _, version = given.partition("@")
    try:
        return datasets.find(session, name, version or None)
    except datasets.NotReady as error:
        return Problem(
            code=error.code,
            pointer="/dataset",
            message=str(error),
            received=given,
            expected="a dataset that is ready",
        )
    except NotFound as error:
        return Problem(
            code="unknown_dataset",
            pointer="/dataset",
            message=str(error),
            received=given,
            expected=_nearest(name, datasets.usable_names(session)),
        )


def _nearest(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1)
    listed = ", ".join(names)
    return f"{near[0]}; all names: {listed}" if near else f"one of {listed}"


def _other_problems(document: object) -> Sequence[Problem]:
    try:
        check(document, None)
    except SpecInvalid as error:
        return error.problems
    return ()


def override(document: object, settings: Sequence[str]) -> object:
    """Apply `path=value` pairs to a copy of a document: dotted path, list items by index.

    A value is read as JSON, otherwise it is text. Raises SpecInvalid for a path that leads nowhere,
    DocumentUnreadable for a value that no document may hold.
    """
    return _changed(document, [_Setting.of(text) for text in settings])


def assign(document: object, changes: Mapping[str, Any]) -> object:
    """Put values at dotted paths in a copy of a document; otherwise as `override`."""
    settings = [_Setting(path, value, path) for path, value in changes.items()]
    return _changed(document, settings)


@dataclass(frozen=True)
class _Setting:
    path: str
    value: object
    text: str
    """As it came."""
    is_whole: bool = True

    @classmethod
    def of(cls, text: str) -> "_Setting":
        path, equals, value = text.partition("=")
        return cls(path, _read(value), text, bool(equals))


def _changed(document: object, settings: Sequence[_Setting]) -> object:
    changed = deepcopy(document)
    problems = [problem for setting in settings if (problem := _set(changed, setting)) is not None]
    if problems:
        raise SpecInvalid(tuple(problems))
    check_plain(changed)
    return changed


def _set(document: Any, setting: _Setting) -> Problem | None:
    path, text = setting.path, setting.text
    *parents, last = path.split(".")
    place = document
    for step in parents:
        # What stands at the top, such as `name`, is text and never a type.
        place = _step(place, step, is_type=place is not document)
    if not setting.is_whole or not path or not _assign(place, last, setting.value):
        return Problem(
            code="bad_override",
            pointer="/" + path.replace(".", "/"),
            message=f"`set` cannot be applied: {text!r} does not lead to a place in the spec.",
            received=text,
            expected="a dotted path and a value, such as fit.epochs=5 or model.layers.1.units=200",
        )
    return None


def _step(place: Any, step: str, *, is_type: bool) -> Any:
    key = _key(place, step)
    if key is None:
        return None
    if isinstance(place, dict):
        place.setdefault(step, {})
    if is_type and isinstance(place[key], str):
        # A bare string stands for the type with its defaults: `Adam` for {type: Adam}.
        place[key] = {"type": place[key]}
    return place[key]


def _key(place: Any, step: str) -> Any:
    if isinstance(place, dict):
        return step
    if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
        return int(step)
    return None


def _assign(place: Any, last: str, value: object) -> bool:
    key = _key(place, last)
    if key is None:
        return False
    place[key] = value
    return True


def _read(value: str) -> object:
    try:
        # NaN and Infinity are no JSON: they stay text.
        return json.loads(value, parse_constant=str)
    except (ValueError, RecursionError):
        return value

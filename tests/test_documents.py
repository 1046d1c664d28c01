"""Request bodies: JSON and YAML give the same plain data, and what is not plain data is refused."""

import json
from typing import Any

import pytest

from services.documents import read_document
from services.problems import DocumentUnreadable

LIMIT = 1_000_000


def read(text: str | bytes, content_type: str | None = "application/yaml") -> Any:
    body = text if isinstance(text, bytes) else text.encode()
    return read_document(body, content_type, limit=LIMIT)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", None, "application/x+json"])
def test_json_is_read(content_type: str | None) -> None:
    document = {"a": [1, 2.5, True, None, "é\U0001f600"], "b": {"c": {}}}
    assert read(json.dumps(document), content_type) == document


def test_yaml_is_read() -> None:
    text = "a: [1, -2.5, true, null, é]\nb:\n  - {c: ''}\n  - |\n    two\n    lines\nd:\n"
    assert read(text) == {"a": [1, -2.5, True, None, "é"], "b": [{"c": ""}, "two\nlines\n"], "d": None}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-3", 0.001),
        (".5", 0.5),
        ("5.", 5.0),
        ("+3", 3),
        ("True", True),
        ("NULL", None),
        ("~", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("0755", "0755"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
        ("=", "="),
    ],
)
def test_yaml_has_no_surprises(written: str, meant: object) -> None:
    value = read(f"a: {written}")["a"]
    assert value == meant
    assert type(value) is type(meant)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("{0: 1.5, on: 2, null: 3, 1.5: 4}") == {"0": 1.5, "on": 2, "null": 3, "1.5": 4}


@pytest.mark.parametrize(
    ("text", "content_type", "code", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", "text/yaml", "duplicate_key", (3, 1)),
        ('{"a": 1, "a": 2}', "application/json", "duplicate_key", (None, None)),
        ('{"a": NaN}', "application/json", "not_finite", (None, None)),
        ('{"a": -Infinity}', "application/json", "not_finite", (None, None)),
        ('{"a": 1e999}', "application/json", "not_finite", (None, None)),
        ('{"a": %s}' % ("9" * 5000), "application/json", "not_finite", (None, None)),
        ("a: .nan", "text/yaml", "not_finite", (1, 4)),
        ("a: -.INF", "text/yaml", "not_finite", (1, 4)),
        ("a: " + "9" * 5000, "text/yaml", "not_finite", (1, 4)),
        ("a: &x 1\nb: *x", "text/yaml", "yaml_alias", (1, 4)),
        ("a: *x", "text/yaml", "yaml_alias", (1, 4)),
        ("a: !!python/object:os.system 1", "text/yaml", "yaml_tag", (1, 4)),
        ("a: !!str 1", "text/yaml", "yaml_tag", (1, 4)),
        ("a: 1\n---\nb: 2", "text/yaml", "not_yaml", (2, 1)),
        ("? [a]\n: 1", "text/yaml", "bad_key", (1, 3)),
        ("a: [1", "text/yaml", "not_yaml", (2, 1)),
        ("a:\n\t- 1", "text/yaml", "not_yaml", (2, 1)),
        ("\x01", "text/yaml", "not_yaml", (None, None)),
        ('{"a": 1,}', "application/json", "not_json", (1, 9)),
        ("", "application/json", "not_json", (1, 1)),
        ('{"a": "\\ud800"}', "application/json", "bad_text", (None, None)),
        ('{"a\\u0000": 1}', "application/json", "bad_text", (None, None)),
        ("[" * 21 + "]" * 21, "application/json", "too_deep", (None, None)),
        ("[" * 100_000, "application/json", "too_deep", (None, None)),
        ("[" * 100_000, "text/yaml", "too_deep", (1, 21)),
        ("[" + "1," * 20_000 + "1]", "application/json", "too_many_values", (None, None)),
        ("[" + "1," * 300_000 + "1]", "text/yaml", "too_many_values", (None, None)),
        (b"a: 1\nb: \xff", "text/yaml", "not_utf8", (2, 4)),
        ("a: 1", "text/html", "unsupported_media_type", (None, None)),
        (" " * (LIMIT + 1), "text/yaml", "too_large", (None, None)),
    ],
)
def test_what_is_not_plain_data_is_refused(
    text: str | bytes, content_type: str, code: str, place: tuple[int | None, int | None]
) -> None:
    with pytest.raises(DocumentUnreadable) as caught:
        read(text, content_type)
    assert (caught.value.code, (caught.value.line, caught.value.column)) == (code, place)
    if place[0] is not None:
        assert f"line {place[0]}, column {place[1]}" in str(caught.value)


def test_many_keys_with_one_double_are_refused_in_time() -> None:
    keys = ",".join(f'"{n}":0' for n in range(80_000))
    with pytest.raises(DocumentUnreadable, match="given twice"):
        read("{" + keys + ',"79999":0}', "application/json")

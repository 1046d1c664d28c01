"""A spec in the forms that a user may have it in, as bytes to send."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainshed.errors import NoSuchFile

Spec = Mapping[str, Any] | str | Path
SPEC_SUFFIXES = (".yaml", ".yml", ".json")


def document(spec: Spec) -> tuple[bytes, str]:
    """The document and its media type. Raises NoSuchFile."""
    if isinstance(spec, Path) or (isinstance(spec, str) and _names_a_file(spec)):
        return _file(Path(spec))
    if isinstance(spec, str):
        kind = "json" if spec.lstrip().startswith("{") else "yaml"
        return spec.encode(), f"application/{kind}"
    return json.dumps(spec).encode(), "application/json"


def _file(path: Path) -> tuple[bytes, str]:
    if not path.is_file():
        raise NoSuchFile(path)
    return path.read_bytes(), f"application/{'json' if path.suffix == '.json' else 'yaml'}"


def _names_a_file(text: str) -> bool:
    # os.path.isfile takes a text of any length; Path.is_file raises if it is too long for a name.
    return "\n" not in text and (text.endswith(SPEC_SUFFIXES) or os.path.isfile(text))  # noqa: PTH113

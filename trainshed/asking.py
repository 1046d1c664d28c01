"""What a job is asked for: rows to predict, and pictures."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from trainshed.exchange import Body
from trainshed.payloads import Payload, rows

PICTURES = frozenset({".png", ".svg"})


def prediction_body(
    data: object, options: Mapping[str, object]
) -> tuple[Body, AbstractContextManager[object]]:
    """The body that asks for a prediction, and the file in it, to be closed once it was sent.

    Raises what rows() raises, and TypeError unless there is either data or a split.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if (data is None) == ("split" not in given):
        raise TypeError("Give either rows or the split whose rows are to be predicted.")
    if data is None:
        return {"json": given}, nullcontext()
    found = rows(data)
    if not isinstance(found, Payload):
        return {"json": {"instances": found} | given}, nullcontext()
    options_text = {"options": json.dumps(given)} if given else {}
    return {"data": options_text, "files": {"file": (found.filename, found.file)}}, found.file


def picture(path: str | Path) -> Path:
    """Where a picture goes. Raises ValueError unless the name ends in .png or .svg."""
    target = Path(path)
    if target.suffix not in PICTURES:
        raise ValueError(f"The picture's name must end in .png or .svg, not {target.name!r}.")
    return target

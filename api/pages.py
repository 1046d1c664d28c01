"""Where a page of a list begins."""

import uuid
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError


def _an_id(text: str) -> str:
    try:
        is_id = str(uuid.UUID(text)) == text
    except ValueError:
        is_id = False
    if not is_id:
        raise PydanticCustomError(
            "bad_cursor",
            "This is no cursor: send `next_after` of the page before, or nothing for the first page",
        )
    return text


PageCursor = Annotated[str, AfterValidator(_an_id)]
"""`next_after` of a list whose rows have ids that sort."""

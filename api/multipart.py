"""A multipart body whose files go where the caller says, piece by piece as they come."""

from collections.abc import Callable
from typing import IO

from flask import request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from api.contract import LARGEST_BODY

MOST_PARTS = 20
Form = tuple[MultiDict[str, str], MultiDict[str, FileStorage]]


def read_form(open_part: Callable[..., IO[bytes]], most_bytes: int, document: str) -> Form:
    """Texts and files by field; each file is written to what `open_part` opens.

    `document` is the field that is no file, for the message. Raises 413 for a body that is larger than
    `most_bytes` or has more than MOST_PARTS parts, 400 for one that is not whole.
    """
    request.max_content_length = most_bytes
    parser = FormDataParser(
        open_part,
        max_form_memory_size=LARGEST_BODY,
        max_content_length=most_bytes,
        max_form_parts=MOST_PARTS,
        silent=False,
    )
    try:
        _, fields, files = parser.parse(
            request.stream, request.mimetype, request.content_length, request.mimetype_params
        )
    except RequestEntityTooLarge:
        size = f"{most_bytes // 2**20:,} MB"
        message = f"The request may have {size}, its `{document}` 1 MB, and {MOST_PARTS} parts."
        raise RequestEntityTooLarge(message) from None
    except ValueError as error:
        raise BadRequest(f"The body is not whole multipart/form-data: {error}.") from None
    return fields, files

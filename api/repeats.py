"""Requests that may be sent twice: the Idempotency-Key header."""

import hashlib
from typing import Final

from flask import request

from services.jobs import Request
from services.problems import Problem, SpecInvalid

LONGEST_KEY = 255
KEY_HEADER: Final = {
    "Idempotency-Key": "Any text; a repeated request with the same key and body gets the same answer."
}


def request_key(*parts: bytes) -> Request | None:
    """The request's Idempotency-Key, with a digest of these parts; None if none came. Raises SpecInvalid."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY:
        message = f"The Idempotency-Key has {len(key)} characters."
        expected = f"1 to {LONGEST_KEY} characters, such as a UUID"
        raise SpecInvalid((Problem("bad_idempotency_key", "", message, key[:80], expected),))
    return Request(key, hashlib.sha256(b"\n".join(parts)).hexdigest())

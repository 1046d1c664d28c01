"""Ids that sort by their time of birth."""

import os
import time
import uuid


def new_id() -> str:
    """A UUIDv7 as text (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits.

    Ids made in the same millisecond have no order among themselves.
    """
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))

"""The idx format: a magic number, the size of each axis, then the values, all big-endian.

Described at http://yann.lecun.com/exdb/mnist/.
"""

import math
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES: Final = 8


class NotIdx(Exception):
    """The file is no whole idx file; the message is one sentence that begins with a verb."""


def parse_idx(content: bytes) -> NDArray[Any]:
    """The array of an idx file, in native byte order; raises NotIdx."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise NotIdx(f"begins with the bytes '{content[:4].hex(' ')}', which are no idx magic number.")
    axes = content[3]
    start = 4 + 4 * axes
    if not 1 <= axes <= _MOST_AXES or len(content) < start:
        raise NotIdx(f"announces {axes} axes in a file of {len(content)} bytes.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    dtype = np.dtype(_TYPES[content[2]])
    announced = start + math.prod(shape) * dtype.itemsize
    if len(content) != announced:
        raise NotIdx(
            f"announces the shape {shape}, {announced} bytes in all, and holds {len(content)} bytes."
        )
    return np.frombuffer(content[start:], dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)

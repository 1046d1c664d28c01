"""A trainer's output without the lines that tell its reader nothing."""

# TensorFlow tries to read a compiled program that was kept as text first, and logs that it is none.
NOISE = (b"tensorflow.XlaSerializedCacheEntry", b"before absl::InitializeLog()")
LONGEST_WAIT = 65536
"""Bytes of a line without an end that are kept back."""


class LogLines:
    """Takes output in pieces of any size and gives whole lines."""

    def __init__(self) -> None:
        self._unfinished = b""

    def take(self, data: bytes) -> bytes:
        """What can be written now; no data: what is left at the end."""
        *lines, last = (self._unfinished + data).split(b"\n")
        is_kept_back = data and len(last) <= LONGEST_WAIT
        self._unfinished = last if is_kept_back else b""
        whole = b"".join(line + b"\n" for line in lines if not any(noise in line for noise in NOISE))
        return whole if is_kept_back else whole + last

"""Where a trainer's time went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """Seconds by name; a name that comes again is added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Take in what was timed elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

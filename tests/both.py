"""The asynchronous client as if it were not, so that one test is about both."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from trainshed.aio.client import AsyncClient
from trainshed.aio.datasets import AsyncDatasets
from trainshed.aio.job import AsyncJob


class Blocking:
    """An object whose coroutines are run and whose asynchronous iterators are read, all in one loop."""

    def __init__(self, target: object, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._plain(getattr(self._target, name))

    def _plain(self, value: Any) -> Any:
        if inspect.ismethod(value):
            return lambda *args, **kwargs: self._plain(value(*args, **kwargs))
        if inspect.iscoroutine(value):
            return self._plain(self._runner.run(value))
        if inspect.isasyncgen(value):
            return self._each(value)
        is_ours = isinstance(value, AsyncClient | AsyncDatasets | AsyncJob)
        return Blocking(value, self._runner) if is_ours else value

    def _each(self, source: AsyncGenerator[Any]) -> Iterator[Any]:
        async def step() -> Any:
            return await anext(source, self)

        try:
            while (item := self._runner.run(step())) is not self:
                yield self._plain(item)
        finally:
            self._runner.run(source.aclose())

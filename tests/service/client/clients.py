"""Both clients behind one blocking face, so that each test says its property once."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from sfsc_service.client import AsyncClient, Client

__all__ = ["KINDS", "opened"]

KINDS = ("blocking", "async")


@contextmanager
def opened(kind: str, url: str, transport: httpx.MockTransport | None = None, **options: Any) -> Iterator[Any]:
    """A `Client`, or an `AsyncClient` whose awaitables and async iterators are waited for."""
    if kind == "blocking":
        with Client(url, transport=transport, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        waited = _Waited(AsyncClient(url, transport=transport, **options), runner)
        yield waited
        waited.close()


class _Waited:
    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            made = method(*args, **options)
            return self._runner.run(made) if inspect.iscoroutine(made) else self._iterate(made)

        return call

    def _iterate(self, values: Any) -> Iterator[Any]:
        while (value := self._runner.run(_next(values))) is not _END:
            yield value


_END = object()


async def _next(values: Any) -> Any:
    return await anext(values, _END)

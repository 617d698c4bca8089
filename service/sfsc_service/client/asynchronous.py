"""The async client of the HTTP API."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from os import PathLike
from types import TracebackType
from typing import Self, TypeVar

import httpx

from sfsc_service.client.api_key import key_header
from sfsc_service.client.call import Answered, Batch, Call, Prepared, Steps, next_call
from sfsc_service.client.certificates import trusted_certificates
from sfsc_service.client.outcome import CallOutcome, answer_of
from sfsc_service.client.retry import pause_s
from sfsc_service.client.routes import Routes, device_embedder

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient(Routes):
    """Calls one service from an event loop; every method returns an awaitable or an async iterator.

    Args: those of `Client`.
    """

    def __init__(
        self,
        base_url: str,
        timeout_s: float = 60.0,
        *,
        embed_with: str | PathLike[str] | None = None,
        width: str | float | None = None,
        collection: str | None = None,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._device, self._collection = device_embedder(embed_with, width), collection
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=timeout_s,
            headers=key_header(api_key),
            trust_env=False,
            verify=trusted_certificates(base_url),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether the service is ready; false, too, where it cannot be reached."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def run(self, prepare: Callable[[], Prepared[T]]) -> T:
        """Make one call; the methods of `Routes` come here."""
        prepared = await asyncio.to_thread(prepare)
        return prepared.answer if isinstance(prepared, Answered) else await self._send(prepared)

    async def iterate(self, steps: Steps[T]) -> AsyncIterator[T]:
        """Make one call after the other; the iterating methods of `Routes` come here."""
        batch: Batch[T] | None = None
        while (call := await asyncio.to_thread(next_call, steps, batch)) is not None:
            batch = await self._send(call)
            for value in batch.values:
                yield value

    async def pipe(self, calls: Iterator[Call[Batch[T]]]) -> AsyncIterator[T]:
        """Send calls in order, each while a thread prepares the next one."""
        under_way: asyncio.Task[Batch[T]] | None = None
        try:
            while (call := await asyncio.to_thread(next, calls, None)) is not None:
                values = [] if under_way is None else (await under_way).values
                under_way = asyncio.create_task(self._send(call))
                for value in values:
                    yield value
            if under_way is not None:
                for value in (await under_way).values:
                    yield value
        finally:
            if under_way is not None:
                under_way.cancel()

    async def _send(self, call: Call[T]) -> T:
        attempt = 1
        while (pause := pause_s(call, attempt, outcome := await self._try(call))) is not None:
            await asyncio.sleep(pause)
            attempt += 1
        return answer_of(call, outcome, self._http.base_url)

    async def _try(self, call: Call[T]) -> CallOutcome:
        try:
            return await self._http.send(call.request(self._http, self._collection))
        except httpx.TransportError as error:
            return error

"""The blocking client of the HTTP API."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

__all__ = ["Client"]

T = TypeVar("T")


class Client(Routes):
    """Calls one service and waits for its answers.

    Args:
        base_url: such as http://127.0.0.1:8000.
        timeout_s: of one call.
        embed_with: a bundle's folder; images are then embedded on this device, and only vectors are sent.
        width: the width to embed with on this device.
        collection: the one that calls about items and searches are about; None: `default`.
        api_key: sent with every call; None: what the variable SFSC_API_KEY holds, if anything.
        transport: how requests travel, where not over a connection of httpx's own.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._device, self._collection = device_embedder(embed_with, width), collection
        self._http = httpx.Client(
            base_url=base_url,
            timeout=timeout_s,
            headers=key_header(api_key),
            trust_env=False,
            verify=trusted_certificates(base_url),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the service is ready; false, too, where it cannot be reached."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def run(self, prepare: Callable[[], Prepared[T]]) -> T:
        """Make one call; the methods of `Routes` come here."""
        prepared = prepare()
        return prepared.answer if isinstance(prepared, Answered) else self._send(prepared)

    def iterate(self, steps: Steps[T]) -> Iterator[T]:
        """Make one call after the other; the iterating methods of `Routes` come here."""
        batch: Batch[T] | None = None
        while (call := next_call(steps, batch)) is not None:
            batch = self._send(call)
            yield from batch.values

    def pipe(self, calls: Iterator[Call[Batch[T]]]) -> Iterator[T]:
        """Send calls in order, each from a thread while the caller's prepares the next one."""
        sender = ThreadPoolExecutor(1)
        try:
            under_way: Future[Batch[T]] | None = None
            for call in calls:
                sent = sender.submit(self._send, call)
                if under_way is not None:
                    yield from under_way.result().values
                under_way = sent
            if under_way is not None:
                yield from under_way.result().values
        finally:
            sender.shutdown(cancel_futures=True)

    def _send(self, call: Call[T]) -> T:
        attempt = 1
        while (pause := pause_s(call, attempt, outcome := self._try(call))) is not None:
            time.sleep(pause)
            attempt += 1
        return answer_of(call, outcome, self._http.base_url)

    def _try(self, call: Call[T]) -> CallOutcome:
        try:
            return self._http.send(call.request(self._http, self._collection))
        except httpx.TransportError as error:
            return error

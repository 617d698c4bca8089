"""Cancel the work for a client that has closed its connection."""

import asyncio
from types import TracebackType

from starlette.requests import Request

from sfsc_service.errors import Problem
from sfsc_service.http.connections import HAS_GONE

__all__ = ["DisconnectWatch", "UploadWatch"]

WATCH_AFTER_S = 0.05
"""When watching begins: most responses are ready before, and watching costs a task."""
LOOK_EVERY_S = 0.1


class DisconnectWatch:
    """`async with DisconnectWatch(request):` cancels its block as soon as the client disconnects.

    Enter it once the body has been read. Raises Problem: client_gone, for the metrics; nobody receives it.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._watch: asyncio.Task[None] | None = None
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._gone and kind is asyncio.CancelledError and not self._task.uncancel():
            raise Problem("client_gone", "the client has closed the connection") from error

    def _begin(self) -> None:
        self._watch = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()


class UploadWatch(DisconnectWatch):
    """The same around a block that reads the body, whose unread bytes would hide that the connection is closed."""

    async def _wait(self) -> None:
        has_gone = self._request.scope.get(HAS_GONE, lambda: False)
        while not has_gone():
            await asyncio.sleep(LOOK_EVERY_S)
        self._gone = True
        self._task.cancel()

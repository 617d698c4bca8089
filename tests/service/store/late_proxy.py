"""A proxy before a server that passes on all requests at once, and the answers late."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["LateProxy", "late_proxy"]

_CHUNK = 65_536


class LateProxy:
    """Listens on `port`; `delay_s`, of answers, may change at any time."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.delay_s = 0.0
        self.port = 0

    async def serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            await asyncio.gather(self._pass_on(reader, far_writer, 0.0), self._pass_on(far_reader, writer, None))

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float | None
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                await asyncio.sleep(self.delay_s if delay_s is None else delay_s)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@contextmanager
def late_proxy(upstream: int) -> Iterator[LateProxy]:
    """One before a port of this machine, until the block ends."""
    proxy, started = LateProxy(upstream), threading.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(_cancel_all())
        loop.close()

    task = loop.create_task(proxy.serve(started))
    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


async def _cancel_all() -> None:
    """The connections that are still open."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)

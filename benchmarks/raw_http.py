"""HTTP/1.1 over asyncio streams, for generating load: cheap, and able to disconnect in the middle of a call.

A call is bytes that were built beforehand; of an answer only status and length are parsed.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

__all__ = ["Answer", "Call", "Caller", "Departure", "make_call"]

IDLE_S = 3.0  # shorter than the server's own keep-alive, so that no call meets a connection being closed
LINGER_S = 0.2
"""Between half a body and closing the connection, so that the server has begun to read."""

Departure = Literal["never", "while sending", "while waiting", "while reading"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request on the wire.

    `route`: the path template that the server counts it under. `leaves`: when the client disconnects.
    """

    kind: str
    method: str
    route: str
    head: bytes
    body: bytes = b""
    leaves: Departure = "never"


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is None where the client disconnected, or where no answer came (`failure` says why)."""

    call: Call
    status: int | None
    body: bytes = b""
    failure: str | None = None


def make_call(
    kind: str,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    route: str | None = None,
    content_type: str = "image/jpeg",
    announced: int | None = None,
    **options: object,
) -> Call:
    """A call of a path with options in its query; `announced` is a Content-Length other than the body's."""
    query = f"?{urlencode(options)}" if options else ""
    lines = [f"{method} {path}{query} HTTP/1.1", "Host: endurance"]
    if body or announced is not None:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {announced or len(body)}"]
    return Call(kind, method, route or path, "\r\n".join([*lines, "", ""]).encode(), body)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used = time.monotonic()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes, bool]:
        """Status, body, and whether the connection may be used again."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lowered = head.lower()
        length = (
            int(lowered.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in lowered else 0
        )
        body = await self.reader.readexactly(length)
        self.used = time.monotonic()
        return int(head[9:12]), body, b"connection: close" not in lowered

    def leave(self) -> None:
        self.writer.transport.abort()


class Caller:
    """Sends calls to one server over a pool of keep-alive connections."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._port, self._timeout_s = port, timeout_s
        self._idle: list[_Connection] = []

    async def call(self, call: Call) -> Answer:
        """Send one call and read its answer, unless the client leaves before. Raises nothing."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if call.leaves != "never":
                    return await self._leave(call)
                return await self._complete(call)
        except TimeoutError:
            return Answer(call, None, failure="stuck")
        except (OSError, asyncio.IncompleteReadError) as error:
            return Answer(call, None, failure=type(error).__name__)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().leave()

    async def _complete(self, call: Call) -> Answer:
        connection = await self._connection()
        try:
            # A server that refuses early may close while we still send; its answer can be read all the same.
            with contextlib.suppress(ConnectionError):
                await connection.send(call.head + call.body)
            status, body, again = await connection.answer()
        except BaseException:
            connection.leave()
            raise
        if again:
            self._idle.append(connection)
        else:
            connection.leave()
        return Answer(call, status, body)

    async def _leave(self, call: Call) -> Answer:
        connection = await self._connection()
        try:
            if call.leaves == "while sending":
                await connection.send(call.head + call.body[: len(call.body) // 2])
                await asyncio.sleep(LINGER_S)
            else:
                await connection.send(call.head + call.body)
            if call.leaves == "while reading":
                await connection.reader.readexactly(20)
        finally:
            connection.writer.close()
        return Answer(call, None)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.used < IDLE_S and not connection.reader.at_eof():
                return connection
            connection.leave()
        return _Connection(*await asyncio.open_connection("127.0.0.1", self._port, limit=2**20))

"""One request at the edge: its body within bounds of size and time, its response with security headers."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from starlette.types import Message, Receive, Send

from sfsc_service.errors import Problem

__all__ = ["BodyMemory", "BoundedRequest"]

STALL_TIMEOUT_S = 30.0
MIN_BYTES_PER_S = 4096
"""How fast a body must arrive on average, after the first `STALL_TIMEOUT_S`."""
DISCARD_TIMEOUT_S = 1.0
MAX_HELD_BODIES = 8
"""How many bodies of the largest size all open requests together may hold."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(slots=True)
class BodyMemory:
    """Memory of request bodies: `max_bytes` of one body, `held_bytes` of all open requests together."""

    max_bytes: int
    held_bytes: int = 0


class BoundedRequest:
    """`receive` and `send` of one ASGI request, within bounds; `status` is None until the response has begun."""

    def __init__(self, receive: Receive, send: Send, memory: BodyMemory) -> None:
        self._receive, self._send, self._memory = receive, send, memory
        self._size = 0
        self._ended = False
        self._waited_s = 0.0
        self.status: int | None = None

    def check_announced(self, content_length: bytes | None) -> None:
        """Check the Content-Length header, before anything is read. Raises Problem: body_too_large."""
        if (
            content_length is not None
            and content_length.isdigit()
            and int(content_length) > self._memory.max_bytes
        ):
            raise self._too_large(content_length.decode())

    async def receive(self) -> Message:
        """Receive the next part of the body.

        Raises:
            Problem: body_stalled, body_too_large, queue_full (all open requests together hold too many bytes).
        """
        if self._ended:
            return await self._next()
        began = time.monotonic()
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                message = await self._next()
        except TimeoutError:
            raise Problem("body_stalled", f"body: nothing arrived for {STALL_TIMEOUT_S:g} s", "body") from None
        self._waited_s += time.monotonic() - began
        if self._waited_s > STALL_TIMEOUT_S + self._size / MIN_BYTES_PER_S:
            raise Problem("body_stalled", f"body: arrived at less than {MIN_BYTES_PER_S} bytes a second", "body")
        if self._size > self._memory.max_bytes:
            raise self._too_large(f"{self._size} or more")
        if self._memory.held_bytes > MAX_HELD_BODIES * self._memory.max_bytes:
            raise Problem(
                "queue_full", "body: the bodies of open requests hold too much memory", retry_after_s=1.0
            )
        return message

    async def discard_rest(self) -> None:
        """Discard the rest of the body, up to `max_bytes`, so that the client reads the response."""
        end = self._size + self._memory.max_bytes
        with contextlib.suppress(TimeoutError):
            while not self._ended and self._size < end:
                message = await asyncio.wait_for(self._next(), DISCARD_TIMEOUT_S)
                self._ended = self._ended or message["type"] != "http.request"

    def closing_headers(self) -> dict[str, str]:
        """Headers that close the connection after the response, unless the body was read to its end."""
        return {} if self._ended else {"Connection": "close"}

    def release(self) -> None:
        """Give back the memory of the body; the request is over."""
        self._memory.held_bytes -= self._size

    async def send(self, message: Message) -> None:
        """Send a part of the response, with the security headers that it does not set itself."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            present = {name for name, _ in headers}
            headers.extend(header for header in SECURITY_HEADERS if header[0] not in present)
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._size += size
            self._memory.held_bytes += size
            self._ended = not message.get("more_body", False)
        return message

    def _too_large(self, found: str) -> Problem:
        rule = f"must have at most {self._memory.max_bytes} bytes"
        return Problem("body_too_large", f"body: {rule}, found {found}", "body")

"""One request at the edge: its body and its response within bounds of size and time, and security headers.

A response that comes before its request's body has ended closes the connection, but not at once: what the client
is still sending is read and dropped for a while. A connection that is closed with unread bytes is reset, and a
client that sends everything before it reads would not find the response.
"""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from sfsc_bundle.described import describe_value
from sfsc_service.engine.memory_budget import SMALL_BODIES_SHARE
from sfsc_service.errors import Problem
from sfsc_service.http.http_protocol import ABORT
from sfsc_service.http.problems import problem_response

__all__ = ["BodyMemory", "BoundedRequest", "hold_response"]

HOLD_RESPONSE = "sfsc.hold_response"
"""The member of a request's scope that counts what is made of its response."""

STALL_TIMEOUT_S = 30.0
MIN_BYTES_PER_S = 4096
"""How fast a body must arrive, but for `STALL_TIMEOUT_S` in which it may be slower."""
DISCARD_TIMEOUT_S = 2.0
"""How long the rest of a body may stall once the response is written."""
DISCARD_SMALL_S = 0.05
"""How long the rest of a small body is waited for before the response, so that the connection stays open."""
DISCARD_S = 30.0
"""How long the rest of a body may take altogether."""
MAX_HELD_BODIES = 8
"""How many bodies of the largest size all open requests together may hold, their large responses included,
where memory allows."""
SMALL_AT_ONCE = 8
"""Requests that find room in what is set aside for small ones."""
SLICE = 2**16
"""Bytes of a response that are handed over at a time; a larger response counts as held."""
SLICE_TIMEOUT_S = 30.0
"""How long a client may take to read one of them."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(slots=True)
class BodyMemory:
    """Memory of bodies: `max_bytes` of one request; `total_bytes` of all open requests and responses together.

    One part in `SMALL_BODIES_SHARE` more is set aside for requests that hold little: a few large bodies refuse
    each other, and not everybody else.
    """

    max_bytes: int
    total_bytes: int
    held_bytes: int = 0

    def is_full_for(self, most_bytes: float) -> bool:
        """Whether more is held than may be, in the eyes of a request that holds so much of it in the end."""
        total = min(self.total_bytes, MAX_HELD_BODIES * self.max_bytes)
        aside = total // SMALL_BODIES_SHARE
        return self.held_bytes > (total + aside if most_bytes <= aside // SMALL_AT_ONCE else total)


class BoundedRequest:
    """`receive` and `send` of one ASGI request, within bounds; `status` is None until the response has begun."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, memory: BodyMemory) -> None:
        self._scope, self._receive, self._send, self._memory = scope, receive, send, memory
        self._size = self._held = 0
        self._made = self._held_response = 0
        scope[HOLD_RESPONSE] = self.hold_response
        self._ended = False
        self._credit_s = STALL_TIMEOUT_S
        """For how long the rest of the body may keep silent."""
        self._refused_encoding = False
        self.status: int | None = None
        self.replaced: Problem | None = None
        """What was sent in the place of a response for which no memory was left."""

    def check_head(self) -> None:
        """Check what the head says of the body, before anything is read.

        Raises:
            Problem: body_too_large, unsupported_media_type (a compressed body).
        """
        if math.inf > self._announced > self._memory.max_bytes:
            raise self._too_large(f"{self._announced}")
        encoding = self._header(b"content-encoding").strip().lower()
        if encoding not in (b"", b"identity"):
            self._refused_encoding = True
            found = describe_value(encoding.decode("latin-1"))
            raise Problem(
                "unsupported_media_type",
                f"Content-Encoding: must be identity, that is, the body must not be compressed, found {found}",
                "Content-Encoding",
            )

    async def receive(self) -> Message:
        """Receive the next part of the body.

        Raises:
            Problem: body_stalled, body_too_large, queue_full (all open requests together hold too many bytes).
        """
        if self._ended:
            return await self._receive()
        began, size = time.monotonic(), self._size
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                message = await self._receive()
        except TimeoutError:
            raise Problem("body_stalled", f"body: nothing arrived for {STALL_TIMEOUT_S:g} s", "body") from None
        self._count(message)
        # What came quickly earns no more time than a body has at first: it would hold its memory for hours.
        self._credit_s += (self._size - size) / MIN_BYTES_PER_S - (time.monotonic() - began)
        self._credit_s = min(self._credit_s, STALL_TIMEOUT_S)
        if self._credit_s < 0:
            raise Problem("body_stalled", f"body: arrived at less than {MIN_BYTES_PER_S} bytes a second", "body")
        if self._size > self._memory.max_bytes:
            raise self._too_large(f"{self._size} or more")
        if self._memory.is_full_for(self._most):
            raise self._no_memory()
        return message

    def hold_response(self, size: int) -> None:
        """Count so many bytes more of a response that has not begun.

        Raises:
            Problem: queue_full, as `receive`.
        """
        self._made += size
        if not self._has_memory_for_response(self._made):
            raise self._no_memory()

    def release(self) -> None:
        """Give back the memory of the body and of the response; the request is over."""
        self._memory.held_bytes -= self._held
        self._scope.pop(HOLD_RESPONSE, None)  # else the scope and this object would refer to each other

    async def send(self, message: Message) -> None:
        """Send a part of the response, with the security headers that it does not set itself.

        A response for which no memory is left is replaced by a problem.
        """
        if self.replaced is not None:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message.get("more_body", False):
            await self._write(message.get("body", b""))
        else:
            await self._finish(message)

    async def _begin(self, message: Message) -> None:
        headers: list[tuple[bytes, bytes]] = message["headers"]
        present = dict(headers)
        if not self._has_memory_for_response(int(present.get(b"content-length", b"0"))):
            await self._replace()
            return
        headers.extend(header for header in SECURITY_HEADERS if header[0] not in present)
        if self._is_body_unread and self._announced <= SLICE and not self._is_body_withheld:
            await self._discard_rest(DISCARD_SMALL_S)
        if self._is_body_unread:
            headers.append((b"connection", b"close"))
        if self._refused_encoding:
            headers.append((b"accept-encoding", b"identity"))
        self.status = message["status"]
        await self._send(message)

    async def _replace(self) -> None:
        problem = self._no_memory()
        response = problem_response(problem, path=self._scope["path"])
        await response(self._scope, self._receive, self.send)
        self.replaced = problem

    async def _finish(self, message: Message) -> None:
        body = message.get("body", b"")
        if len(body) > SLICE or self._is_body_unread:
            await self._write(body)
            message = {**message, "body": b""}
        if self._is_body_unread and not self._is_body_withheld:
            await self._discard_rest(DISCARD_S)
        await self._send(message)

    async def _write(self, body: bytes) -> None:
        for at in range(0, len(body), SLICE):
            message = {"type": "http.response.body", "body": body[at : at + SLICE], "more_body": True}
            try:
                async with asyncio.timeout(SLICE_TIMEOUT_S):
                    await self._send(message)
            except TimeoutError:
                self._scope[ABORT]()

    async def _discard_rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended:
                    message = await asyncio.wait_for(self._receive(), DISCARD_TIMEOUT_S)
                    self._ended = message["type"] != "http.request" or not message.get("more_body", False)

    @property
    def _announced(self) -> float:
        """The size of the body in bytes as its head has it."""
        if self._header(b"transfer-encoding"):
            return math.inf
        length = self._header(b"content-length")
        return int(length) if length.isdigit() else 0

    @property
    def _most(self) -> float:
        """How many bytes it holds, or will hold by its head; a body of unknown length counts as a large one."""
        return max(self._held, self._announced)

    @property
    def _is_body_unread(self) -> bool:
        return not self._ended and self._announced > 0

    @property
    def _is_body_withheld(self) -> bool:
        """Whether the client waits for 100 Continue before it sends the body."""
        return self._size == 0 and bool(self._header(b"expect"))

    def _count(self, message: Message) -> None:
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._size += size
            self._hold(size)
            self._ended = not message.get("more_body", False)

    def _hold(self, size: int) -> None:
        self._held += size
        self._memory.held_bytes += size

    def _has_memory_for_response(self, size: int) -> bool:
        """Count a response of so many bytes, in place of what was counted of it; a small one counts as nothing."""
        more = (size if size > SLICE else 0) - self._held_response
        self._held_response += more
        self._hold(more)
        return more <= 0 or not self._memory.is_full_for(self._most)

    def _header(self, name: bytes) -> bytes:
        return next((value for found, value in self._scope["headers"] if found == name), b"")

    def _too_large(self, found: str) -> Problem:
        rule = f"must have at most {self._memory.max_bytes} bytes"
        return Problem("body_too_large", f"body: {rule}, found {found}", "body")

    def _no_memory(self) -> Problem:
        detail = "body: the bodies of open requests and responses hold too much memory"
        return Problem("queue_full", detail, retry_after_s=1.0)


def hold_response(request: Request, pieces: Iterable[bytes]) -> None:
    """Count pieces of a response that is being put together, in the memory of bodies and responses.

    Raises:
        Problem: queue_full, all open requests together hold too many bytes.
    """
    request.scope[HOLD_RESPONSE](sum(map(sys.getsizeof, pieces)))

"""A response's head leaves in one system call with the body that follows it.

uvicorn writes head and body one after the other, and uvloop makes a system call and a packet of each write.
"""

import asyncio
from typing import Any

__all__ = ["CoalescingTransport"]

STATUS_LINE = b"HTTP/1.1 "


class CoalescingTransport:
    """Wraps a transport and holds a response's head back until the next write or `flush`."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, except for a head, which waits for its body."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif data[: len(STATUS_LINE)] == STATUS_LINE and data[len(STATUS_LINE) : len(STATUS_LINE) + 1] != b"1":
            self._head = bytes(data)  # not for 1xx: the client waits for 100 Continue before it sends its body
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send a head that is held back."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def close(self) -> None:
        """Send what is held back, then close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the wrapped transport's own."""
        return getattr(self._transport, name)

"""A response's head leaves in one system call with the body that follows it.

uvicorn writes head and body one after the other, and uvloop makes a system call and a packet of each write.
"""

import asyncio
from typing import Any

__all__ = ["CoalescingTransport"]

STATUS_LINE = b"HTTP/1.1 "


class CoalescingTransport(asyncio.Transport):
    """Holds a response's head back until the next write; `flush` sends a head that nothing follows."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
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

    def abort(self) -> None:
        """Close without sending what is held back."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the transport is closed or closing."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Information about the socket."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Stop reading from the client."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that receives data."""
        self._transport.set_protocol(protocol)

"""Split a body into lines while it arrives, with a bound on the length of a line."""

from collections.abc import AsyncIterator

from sfsc_service.errors import Problem

__all__ = ["read_lines"]


async def read_lines(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Lines without their line ends; empty lines are left out.

    Raises:
        Problem: body_too_large, a line is longer than `max_bytes`.
    """
    rest = bytearray()
    async for chunk in chunks:
        *ends, last = chunk.split(b"\n")
        for end in ends:
            rest += end
            _check(rest, max_bytes)
            if rest.strip():
                yield bytes(rest)
            rest.clear()
        rest += last
        _check(rest, max_bytes)
    if rest.strip():
        yield bytes(rest)


def _check(line: bytearray, max_bytes: int) -> None:
    if len(line) > max_bytes:
        raise Problem("body_too_large", f"body: a line must have at most {max_bytes} bytes", "body")

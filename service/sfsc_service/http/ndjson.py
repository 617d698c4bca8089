"""A body as lines, while it arrives; neither the body nor a line is ever held beyond a bound."""

from collections.abc import AsyncIterator

from sfsc_service.errors import Problem

__all__ = ["read_lines"]


async def read_lines(chunks: AsyncIterator[bytes], longest: int) -> AsyncIterator[bytes]:
    """Lines without their ends; empty ones are left out.

    Raises:
        Problem: body_too_large, a line is longer than `longest` bytes.
    """
    rest = bytearray()
    async for chunk in chunks:
        *ends, last = chunk.split(b"\n")
        for end in ends:
            rest += end
            _check(rest, longest)
            if rest.strip():
                yield bytes(rest)
            rest.clear()
        rest += last
        _check(rest, longest)
    if rest.strip():
        yield bytes(rest)


def _check(line: bytearray, longest: int) -> None:
    if len(line) > longest:
        raise Problem("body_too_large", f"body: a line must have at most {longest} bytes", "body")

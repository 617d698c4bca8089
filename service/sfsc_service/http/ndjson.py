"""Split a body into lines while it arrives, with bounds on the length and the number of lines."""

from collections.abc import AsyncIterator

from sfsc_service.errors import Problem

__all__ = ["read_lines"]


async def read_lines(
    chunks: AsyncIterator[bytes], max_bytes: int, max_lines: int
) -> AsyncIterator[list[bytes | bytearray]]:
    """The lines that end in each chunk, without their line ends; empty lines are left out, but count.

    Raises:
        Problem: body_too_large, a line is longer than `max_bytes`, or there are more than `max_lines`.
    """
    rest = bytearray()
    count = 0
    async for chunk in chunks:
        count += chunk.count(b"\n")
        if count > max_lines:
            raise Problem("body_too_large", f"body: at most {max_lines} lines, empty ones included", "body")
        first, *others = chunk.split(b"\n")
        rest += first
        if len(rest) > max_bytes:
            raise Problem("body_too_large", f"body: a line must have at most {max_bytes} bytes", "body")
        if others:
            ended: list[bytes | bytearray] = [rest, *others[:-1]]
            rest = bytearray(others[-1])
            if lines := [line for line in ended if not _is_empty(line)]:
                yield lines
    if not _is_empty(rest):
        yield [rest]


def _is_empty(line: bytes | bytearray) -> bool:
    return not line or line.isspace()

"""Bodies in NDJSON, parsed line by line while they arrive."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from sfsc_service.errors import Problem
from sfsc_service.http.charset import utf8
from sfsc_service.http.json_document import Body
from sfsc_service.http.ndjson import read_lines
from sfsc_service.http.problems import as_problem
from sfsc_service.http.request_body import charset_of, max_document_bytes, parsing

__all__ = ["NDJSON", "parsed_lines"]

T = TypeVar("T")

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")

MAX_EMPTY_LINES = 4
"""Lines for each one that may hold something: some clients write empty ones."""
LINE_BYTES = 1024
"""A line takes as long as parsing so many bytes, however short it is."""
MAX_LINES_AT_ONCE = 64
"""Lines that are parsed together. Each one that is wrong leaves an error with a traceback: with thousands of them,
Python's collector of cycles would stop everything for 100 ms."""


async def parsed_lines(
    request: Request, parse: Callable[[Body], T], kind: str
) -> AsyncIterator[Sequence[T | Problem]]:
    """What `parse` makes of each line, some at a time, where bodies are parsed; of at most SFSC_MAX_ITEMS lines.

    A body that cannot be read to its end has the problem as its last line; the rest of it is read and dropped.

    Args:
        kind: of what a line holds, for messages: items.

    Raises:
        Problem: client_gone, unsupported_media_type.
    """
    settings = request.app.state.settings
    charset = charset_of(request)
    max_line = 2 * settings.max_image_bytes + max_document_bytes(request)
    chunks = request.stream()
    number = 0

    def parse_all(lines: list[Body]) -> list[T]:
        return [parse(utf8(line, charset)) for line in lines]

    try:
        async for lines in read_lines(chunks, max_line, MAX_EMPTY_LINES * settings.max_items):
            allowed = lines[: settings.max_items - number]
            for at in range(0, len(allowed), MAX_LINES_AT_ONCE):
                some = allowed[at : at + MAX_LINES_AT_ONCE]
                size = sum(len(line) + LINE_BYTES for line in some)
                yield await parsing(request).run(size, parse_all, some)
            number += len(lines)
            if number > settings.max_items:
                rule = f"at most {settings.max_items} in a request"
                raise Problem("limit_exceeded", f"{kind}: {rule}, found more; the rest is ignored", kind)
    except ClientDisconnect as gone:
        raise as_problem(gone) from gone
    except Problem as problem:
        yield [problem]
        async for _ in chunks:  # read to the end, so that the client reads the response
            pass

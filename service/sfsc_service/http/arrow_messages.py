"""The messages of an Arrow stream, each checked before a library sees it.

Within a message's metadata, a flatbuffer, many places may refer to the same bytes. Arrow's library copies them for
each, and ends the process where memory is not enough: a body of 200 kB could ask for gigabytes.

Invariants:
- The metadata of a message has at most MAX_METADATA_BYTES, and the number of references to any part is bounded.
- Nothing outside of a message's metadata is read to check it.
"""

import struct
from collections.abc import Iterator
from typing import Final

from sfsc_service.errors import Problem

__all__ = ["MAX_KEYS", "MAX_METADATA_BYTES", "messages_of"]

MAX_METADATA_BYTES = 8 * 1024
"""Of one message. The schema of three columns with what pandas adds has about 1 kB, a batch of them 500 bytes."""
MAX_COLUMNS = 3
MAX_KEYS = 64
"""Entries of custom metadata of a message, a schema or a column."""

_CONTINUATION: Final = 0xFFFFFFFF
_PREFIX_BYTES = 8
_SCHEMA, _RECORD_BATCH = 1, 3
_KINDS = {
    0: "nothing",
    _SCHEMA: "schema",
    2: "dictionary",
    _RECORD_BATCH: "record batch",
    4: "tensor",
    5: "sparse tensor",
}

# Numbers of fields in the tables of Message.fbs and Schema.fbs.
_OF_MESSAGE: Final = {"kind": 1, "header": 2, "body_length": 3, "keys": 4}
_OF_SCHEMA: Final = {"columns": 1, "keys": 2}
_OF_COLUMN: Final = {"children": 5, "keys": 6}
_OF_BATCH: Final = {"compression": 3}


def messages_of(body: bytes | bytearray) -> Iterator[memoryview]:
    """The bytes of each message: first a schema, then record batches that are not compressed.

    Raises:
        Problem: invalid_request, the body is no such stream; invalid_parameter, it has more columns than there may
            be; limit_exceeded, a message's metadata is too large.
    """
    rest, wanted = memoryview(body), _SCHEMA
    while rest:
        marker, length = struct.unpack_from("<II", _at_least(rest, _PREFIX_BYTES))
        if marker != _CONTINUATION:
            raise _broken(f"must have {_CONTINUATION:#x} before each message, found {marker:#x}")
        if not length:
            break
        if length > MAX_METADATA_BYTES:
            detail = f"metadata: at most {MAX_METADATA_BYTES} bytes in an Arrow message, found {length}"
            raise Problem("limit_exceeded", detail, "metadata")
        metadata = _Flatbuffer(_at_least(rest, _PREFIX_BYTES + length)[_PREFIX_BYTES : _PREFIX_BYTES + length])
        try:
            body_bytes = _check(metadata, wanted)
        except struct.error as error:
            raise _broken("has metadata that cannot be read") from error
        end = _PREFIX_BYTES + length + body_bytes
        yield _at_least(rest, end)[:end]
        rest, wanted = rest[end:], _RECORD_BATCH
    if wanted == _SCHEMA:
        raise _broken("must be an Arrow stream, found nothing")


def _check(metadata: "_Flatbuffer", wanted: int) -> int:
    """Check a message's metadata; the length of its body in bytes. Raises Problem, struct.error."""
    message = metadata.follow(0)
    kind = metadata.byte(metadata.field(message, _OF_MESSAGE["kind"]))
    if kind != wanted:
        rule = "begin with a schema" if wanted == _SCHEMA else "hold record batches"
        raise _broken(f"must {rule}, found a {_KINDS.get(kind, 'message of an unknown kind')}")
    _check_keys(metadata, message, _OF_MESSAGE["keys"])
    header = metadata.follow(metadata.field(message, _OF_MESSAGE["header"]))
    if kind == _SCHEMA:
        _check_keys(metadata, header, _OF_SCHEMA["keys"])
        _check_columns(metadata, header)
    elif metadata.field(header, _OF_BATCH["compression"]):
        raise _broken("must not be compressed, found a compressed record batch")
    return metadata.length(metadata.field(message, _OF_MESSAGE["body_length"]))


def _check_columns(metadata: "_Flatbuffer", schema: int) -> None:
    columns, children = _OF_SCHEMA["columns"], _OF_COLUMN["children"]
    if (found := metadata.count(schema, columns)) > MAX_COLUMNS:
        rule = "must be id, vector and, if wanted, metadata"
        raise Problem("invalid_parameter", f"columns: {rule}, found {found} columns", "columns")
    for column in metadata.tables(schema, columns):
        _check_keys(metadata, column, _OF_COLUMN["keys"])
        if (found := metadata.count(column, children)) > 1:
            raise _nested(found)
        for child in metadata.tables(column, children):
            _check_keys(metadata, child, _OF_COLUMN["keys"])
            if found := metadata.count(child, children):
                raise _nested(found)


def _check_keys(metadata: "_Flatbuffer", table: int, number: int) -> None:
    if (found := metadata.count(table, number)) > MAX_KEYS:
        detail = f"metadata: at most {MAX_KEYS} keys in custom metadata of an Arrow stream, found {found}"
        raise Problem("limit_exceeded", detail, "metadata")


def _nested(found: int) -> Problem:
    rule = "must be utf8, or a list of numbers that fixed_size_list<float32> describes"
    return Problem("invalid_parameter", f"columns: {rule}, found a type of {found} nested types", "columns")


def _broken(rule: str) -> Problem:
    return Problem("invalid_request", f"body: {rule}", "body")


def _at_least(data: memoryview, length: int) -> memoryview:
    if len(data) < length:
        raise _broken(f"must be an Arrow stream, but its last message lacks {length - len(data)} bytes")
    return data


class _Flatbuffer:
    """Reads places of a flatbuffer. Raises struct.error where one lies outside of it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def follow(self, at: int) -> int:
        """The place that the offset at a place leads to."""
        return at + self._number("<I", at)

    def field(self, table: int, number: int) -> int:
        """Where a field of a table is; 0 where it is not set."""
        vtable = table - self._number("<i", table)
        at = 4 + 2 * number
        offset = self._number("<H", vtable + at) if at < self._number("<H", vtable) else 0
        return table + offset if offset else 0

    def byte(self, at: int) -> int:
        """A byte that is 0 unless it is set."""
        return self._number("<B", at) if at else 0

    def length(self, at: int) -> int:
        """A length that is 0 unless it is set."""
        found = self._number("<q", at) if at else 0
        if found < 0:
            raise struct.error("negative length")
        return found

    def count(self, table: int, number: int) -> int:
        """How many members a field has that is a vector."""
        at = self.field(table, number)
        return self._number("<I", self.follow(at)) if at else 0

    def tables(self, table: int, number: int) -> list[int]:
        """The places of the tables in a field that is a vector of them."""
        count = self.count(table, number)
        first = self.follow(self.field(table, number)) + 4 if count else 0
        return [self.follow(first + 4 * member) for member in range(count)]

    def _number(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error("before the beginning")
        return int(struct.unpack_from(form, self._data, at)[0])

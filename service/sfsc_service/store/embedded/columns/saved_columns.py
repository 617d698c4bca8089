"""Columns in a file, so that a start need not read every row of the database for them.

The file may be of any age: no version of an item is ever altered, so what it says of those that are still current
is true, and what is missing are versions with higher numbers than its last. That it belongs to the history of this
database, and not to that of another copy of the gallery, its token tells, which the database notes after the file
was written. It is read as a whole or not at all; one that is missing, damaged, or another's costs a start its time
and nothing else.

    magic, length of the head, head: a JSON document with the sizes of all that follows
    the numbers of the versions, int64
    of each field: codes, int32; numbers, float64; the values of its codes, a JSON list
    CRC-32 of all before
"""

import logging
import secrets
import shutil
import zlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import orjson

from sfsc_bundle.atomic_file import replacing
from sfsc_service.store.embedded.columns.column import ColumnContents
from sfsc_service.store.embedded.columns.fields import OBJECT
from sfsc_service.store.embedded.columns.table import TableContents
from sfsc_service.store.filters.terms import Field, ItemField, MetadataField

__all__ = ["SavedColumns"]

_MAGIC = b"sfsc columns 1\n\0"
_LENGTH_BYTES = 8
_TOKEN_BITS = 62
_CHECKSUM_BYTES = 4
_WRITTEN_AT_ONCE = 16 << 20
# Larger files are not read: numbers of versions, columns, texts that take more bytes in JSON, and the head.
_SIZE_TIMES = 2
_HEAD_BYTES = 4 << 20
# The disk must have so many times the file's size free: it is there to save time, nothing that is needed.
_FREE_TIMES = 4

_log = logging.getLogger(__name__)


class _SavingStoppedError(Exception):
    """The store is being closed."""


class SavedColumns:
    """The file `path` of the gallery with this number, for one thread; `token`: what its database noted last."""

    def __init__(self, path: Path, gallery: int, token: int) -> None:
        self._path = path
        self._gallery = gallery
        self._token = token

    def read(self, memory_bytes: int, last_sequence: int) -> TableContents | None:
        """What the file holds; None where there is none that can be used with so much memory for columns.

        `last_sequence`: the highest number that a version may have.
        """
        try:
            most = _SIZE_TIMES * memory_bytes + 8 * last_sequence + _HEAD_BYTES
            if (size := self._path.stat().st_size) > most:
                raise ValueError(f"it may have {most} bytes, and has {size}")
            content = np.fromfile(self._path, np.uint8)  # mapped, a bad sector would end the process
            return self._read(content, memory_bytes)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            _log.warning("%s cannot be used, so the fields are read from the database: %r", self._path, error)
            return None

    def write(self, contents: TableContents, memory_bytes: int, stop: Callable[[], bool]) -> int | None:
        """Replace the file; its token, which is for the database to note.

        None where that was not done: the disk is nearly full, or `stop` is true meanwhile.

        `memory_bytes`: what the columns may take. Raises OSError.
        """
        token = secrets.randbits(_TOKEN_BITS)
        blocks, head = _blocks(contents)
        head |= {"gallery": self._gallery, "token": token, "memory_bytes": memory_bytes}
        size = sum(len(block) for block in blocks)
        if shutil.disk_usage(self._path.parent).free < _FREE_TIMES * size:
            return None
        try:
            with replacing(self._path) as file:
                checksum = 0
                for block in (*_start(head), *blocks):
                    for first in range(0, len(block), _WRITTEN_AT_ONCE):
                        piece = block[first : first + _WRITTEN_AT_ONCE]
                        checksum = zlib.crc32(piece, checksum)
                        file.write(piece)
                        if stop():
                            raise _SavingStoppedError
                file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))
        except _SavingStoppedError:
            return None
        return token

    def _read(self, content: npt.NDArray[np.uint8], memory_bytes: int) -> TableContents | None:
        data = content.data
        if len(data) < _CHECKSUM_BYTES or bytes(data[: len(_MAGIC)]) != _MAGIC:
            raise ValueError("it is no file of columns")
        if zlib.crc32(data[:-_CHECKSUM_BYTES]) != int.from_bytes(data[-_CHECKSUM_BYTES:], "little"):
            raise ValueError("its checksum is wrong")
        start = len(_MAGIC) + _LENGTH_BYTES
        end = start + int.from_bytes(data[len(_MAGIC) : start], "little")
        head = orjson.loads(data[start:end])
        is_enough = head["complete"] or head["memory_bytes"] >= memory_bytes
        if (head["gallery"], head["token"]) != (self._gallery, self._token) or not is_enough:
            return None
        return _contents(head, content[end:-_CHECKSUM_BYTES])


def _start(head: dict[str, Any]) -> Iterator[memoryview]:
    text = orjson.dumps(head)
    yield memoryview(_MAGIC + len(text).to_bytes(_LENGTH_BYTES, "little") + text)


def _blocks(contents: TableContents) -> tuple[list[memoryview], dict[str, Any]]:
    """The bytes after the head, and what the head says of them."""
    blocks, fields = [_bytes(contents.sequences, "<i8")], []
    for field, column in contents.columns.items():
        values = orjson.dumps([_as_json(value) for value in column.values])
        blocks += [_bytes(column.codes, "<i4"), _bytes(column.numbers, "<f8"), memoryview(values)]
        fields.append(
            {
                "field": _name(field),
                "codes": len(column.codes),
                "numbers": len(column.numbers),
                "values": len(values),
                "apart": column.numbers_apart,
            }
        )
    return blocks, {"rows": len(contents.sequences), "complete": contents.complete, "fields": fields}


def _contents(head: dict[str, Any], content: npt.NDArray[np.uint8]) -> TableContents:
    done = 0

    def take(count: int, kind: str) -> npt.NDArray[Any]:
        nonlocal done
        first, done = done, done + count * np.dtype(kind).itemsize
        return content[first:done].view(kind)

    sequences, columns = take(head["rows"], "<i8"), dict[Field, ColumnContents]()
    for one in head["fields"]:
        codes, numbers = take(one["codes"], "<i4"), take(one["numbers"], "<f8")
        values = orjson.loads(take(one["values"], "<u1").data)
        columns[_field(one["field"])] = ColumnContents(
            codes, numbers, [_from_json(value) for value in values], one["apart"]
        )
    if done != len(content):
        raise ValueError("its size is not what its head says")
    return TableContents(sequences, columns, head["complete"])


def _bytes(array: npt.NDArray[Any], kind: str) -> memoryview:
    return np.ascontiguousarray(array, kind).data.cast("B") if len(array) else memoryview(b"")


def _name(field: Field) -> list[str] | str:
    return list(field.path) if isinstance(field, MetadataField) else field.name


def _field(name: Any) -> Field:
    return ItemField(cast("Any", name)) if isinstance(name, str) else MetadataField(tuple(name))


def _as_json(value: Hashable) -> Any:
    """A value of a column as JSON: a text, a number or None as it is, all others as lists with a kind first."""
    if value == OBJECT:
        return ["object"]
    if isinstance(value, tuple):
        return ["bool", value[0]]
    if isinstance(value, frozenset):
        return ["list", *map(_as_json, value)]
    return value


def _from_json(value: Any) -> Hashable:
    match value:
        case ["object"]:
            return OBJECT
        case ["bool", bool() as truth]:
            return (truth,)
        case ["list", *elements]:
            return frozenset(map(_from_json, elements))
        case list():
            raise ValueError(f"there is no value {value!r}"[:200])
        case _:
            return value  # type: ignore[no-any-return]

"""Where the items of a HEIC or AVIF file lie: its table `iloc`, ISO/IEC 14496-12, section 8.11.3."""

from collections.abc import Iterator

__all__ = ["extents"]


class _Reader:
    """Numbers of a table, one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def take(self, size: int) -> int:
        """The next number, of so many bytes; zero where these are none."""
        if self._at + size > len(self._data):
            raise IndexError("the table is cut short")
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def extents(data: bytes, table: int, inside: int | None) -> Iterator[tuple[int, int, int]]:
    """Number of the item, start and length of each of its pieces; a length of zero reaches to the end.

    Args:
        table: where the content of the table begins.
        inside: where the content of the box begins in which some items lie.

    Raises:
        IndexError: the table is cut short.
    """
    reader = _Reader(data, table)
    version = reader.take(4) >> 24
    sizes = reader.take(2)
    offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    for _ in range(reader.take(wide)):
        number = reader.take(wide)
        method = reader.take(2) & 15 if version else 0
        reader.take(2)  # the file that it lies in: this one
        begin = reader.take(base) + (inside or 0 if method == 1 else 0)
        for _ in range(reader.take(2)):
            reader.take(index)
            start = begin + reader.take(offset)
            yield number, start, reader.take(length) or max(0, len(data) - start)

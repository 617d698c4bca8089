"""The items of an AVIF whose pixels a decoder makes room for: no larger, and no more, than the image itself."""

from collections import defaultdict
from collections.abc import Mapping

from sfsc_bundle.headers.av1 import frame_sizes
from sfsc_bundle.headers.item_places import extents
from sfsc_bundle.headers.parsed import damaged

__all__ = ["CODED", "GRID", "check_items"]

CODED, GRID = b"av01", b"grid"
"""Kinds of items: coded pixels, and a grid that is made of other items."""
MOST_CODED = 6
"""Pixels that are coded, in images: colours, alpha, a gain map, a thumbnail, and what tiles have at the edge."""
_SLACK = 2**20


def check_items(
    data: bytes, kinds: Mapping[int, bytes], table: int, inside: int | None, width: int, height: int
) -> None:
    """Check all items against the size that the file says it has.

    Args:
        kinds: of the items, by their numbers.
        table, inside: as `extents` takes them.

    Raises:
        ImageError: image_damaged.
        IndexError: an item is cut short.
    """
    pieces: dict[int, list[memoryview]] = defaultdict(list)
    for number, start, length in extents(data, table, inside):
        if number in kinds:
            pieces[number].append(memoryview(data)[start : start + length])
    if sum(len(piece) for item in pieces.values() for piece in item) > 2 * len(data):
        raise damaged("the items of an AVIF overlap")
    coded = 0
    for number, item in pieces.items():
        content = item[0] if len(item) == 1 else b"".join(item)
        found = [_grid_size(content)] if kinds[number] == GRID else list(frame_sizes(content))
        for across, down in found:
            if across * down > width * height:
                raise damaged(f"an AVIF of {width}×{height} pixels has frames of {across}×{down}")
        coded += max((across * down for across, down in found), default=0)
    if coded > MOST_CODED * width * height + _SLACK:
        raise damaged(f"an AVIF of {width}×{height} pixels is coded in {coded}")


def _grid_size(content: bytes | memoryview) -> tuple[int, int]:
    size = 4 if content[1] & 1 else 2
    width, height = (int.from_bytes(content[at : at + size], "big") for at in (4, 4 + size))
    return width, height

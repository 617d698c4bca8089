"""The orientation in EXIF data or XMP, found without parsing anything else of them.

EXIF data are a TIFF file. A general parser of it reads the value of every tag, each of which may be as long as the
file; here the entries of the first directory are looked through once.
"""

import re
import struct

__all__ = ["MAX_ENTRIES", "exif_orientation", "orientation_of", "xmp_orientation"]

MAX_ENTRIES = 1000
"""Entries of a directory that are looked through; cameras write about twenty."""

_PREFIX = b"Exif\0\0"
_TAG = 0x0112
_VALUES = {1: "B", 3: "H", 4: "I"}
"""The integer types of TIFF, BYTE, SHORT and LONG, as struct has them."""
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation, 1 to 8, by EXIF data or, where these have none, by XMP; 1 where neither has a valid one."""
    found = exif_orientation(exif)
    if found is None:
        found = xmp_orientation(xmp)
    return found if found is not None and 1 <= found <= 8 else 1


def exif_orientation(exif: bytes) -> int | None:
    """The orientation in EXIF data, None where it has none or is broken, which is common in the wild."""
    tiff = exif.removeprefix(_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(order + "H", tiff, start)
    whole = min(count, MAX_ENTRIES, (len(tiff) - start - 2) // 12)
    entries = tiff[start + 2 : start + 2 + 12 * whole]
    for tag, kind, values, value in struct.iter_unpack(order + "HHI4s", entries):
        if tag == _TAG:
            single = values == 1 and kind in _VALUES
            return int(struct.unpack_from(order + _VALUES[kind], value)[0]) if single else 1
    return None


def xmp_orientation(xmp: bytes) -> int | None:
    """The orientation in XMP, None where it has none."""
    found = _XMP.search(xmp)
    return None if found is None else int(found[1])

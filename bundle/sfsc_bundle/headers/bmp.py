"""BMP: one header of a fixed length."""

import struct

from sfsc_bundle.errors import ImageError
from sfsc_bundle.headers.parsed import ParsedHeader

__all__ = ["parse"]

_RUN_LENGTH = (1, 2)


def parse(data: bytes) -> ParsedHeader:
    """Read the header of a BMP. Raises ImageError, or struct.error where it is cut short."""
    (length,) = struct.unpack_from("<I", data, 14)
    if length == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in _RUN_LENGTH:  # a few bytes of which make rows as long as they please
        raise ImageError("image_not_recognised", "a BMP must not be run-length encoded, found one that is")
    return ParsedHeader(width, abs(height), data, pixel_bytes=2.0 if bits <= 8 else 5.0)

"""Encoded images in base64 or as data URIs, as JSON carries them.

Line breaks within the base64 text are left out, as in MIME (RFC 2045); anything else but the alphabet is
refused.
"""

import binascii
import io
import re

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem

__all__ = ["decode_image", "is_data_uri"]

PADDING = ord("=")
CHUNK = 2**18
"""Characters that are decoded at a time, 1 ms: Python holds its lock meanwhile."""

_DATA_URI = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)


def is_data_uri(text: object) -> bool:
    """Whether it is a text, or a view of one, that is a data URI in base64."""
    return isinstance(text, str | memoryview) and _DATA_URI.match(_ascii(text[:300])) is not None


def decode_image(text: object, place: str) -> bytes:
    """Decode the base64 text or data URI at a place such as image or image[2].

    Args:
        text: a string, or a view of one as `json_document.read_object` gives it.

    Raises:
        Problem: invalid_parameter.
    """
    parameter = place.split("[")[0]
    if not isinstance(text, str | memoryview):
        raise Problem("invalid_parameter", f"{place}: must be base64, found {describe_value(text)}", parameter)
    try:
        prefix = _DATA_URI.match(_ascii(text[:300]))
        encoded = text[prefix.end() :] if prefix else text
        if isinstance(encoded, str):
            encoded = memoryview(_ascii(encoded).translate(None, b"\r\n"))
        return _decode(encoded)
    except ValueError as error:
        shown = describe_value(_ascii(text[:100]).decode())
        raise Problem(
            "invalid_parameter", f"{place}: must be base64: {error}, found {shown}", parameter
        ) from error


def _ascii(text: str | memoryview) -> bytes:
    """What is not ASCII becomes a question mark, which is not of base64's alphabet either."""
    return text.encode("ascii", "replace") if isinstance(text, str) else bytes(text)


def _decode(encoded: memoryview) -> bytes:
    chunks = [encoded[at : at + CHUNK] for at in range(0, len(encoded), CHUNK)]
    if any(chunk[-1] == PADDING for chunk in chunks[:-1]):
        raise ValueError("padding within the text")
    data = io.BytesIO()  # which grows piece by piece, while joining takes new memory for all of it at once
    for chunk in chunks:
        data.write(binascii.a2b_base64(chunk, strict_mode=True))
    return data.getvalue()

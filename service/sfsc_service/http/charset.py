"""Parameters of a Content-Type, and the charsets that it may name: some others take quadratic time (punycode)."""

from python_multipart.multipart import parse_options_header

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem

__all__ = ["content_type_parameters", "python_charset", "utf8"]

MAX_CONTENT_TYPE = 1024
"""Characters; the time to parse one grows with the square of its length."""

CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
}
"""Names that clients write and Python's name for each; ASCII is a part of UTF-8."""


def content_type_parameters(content_type: str) -> dict[bytes, bytes]:
    """What follows the media type. Raises Problem: unsupported_media_type, for one that is too long."""
    if len(content_type) > MAX_CONTENT_TYPE:
        raise Problem(
            "unsupported_media_type",
            f"Content-Type: must have at most {MAX_CONTENT_TYPE} characters, found {len(content_type)}",
            "Content-Type",
        )
    return parse_options_header(content_type)[1]


def python_charset(name: str) -> str:
    """Python's name of a charset. Raises Problem: unsupported_media_type."""
    found = CHARSETS.get(name.strip().strip('"').lower())
    if found is None:
        raise Problem(
            "unsupported_media_type",
            f"Content-Type: charset must be utf-8 or iso-8859-1, found {describe_value(name)}",
            "Content-Type",
        )
    return found


def utf8(body: bytes | bytearray, charset: str) -> bytes | bytearray:
    """A body in UTF-8; `charset` as `python_charset` gives it."""
    return body if charset == "utf-8" or body.isascii() else body.decode(charset).encode()

"""The charsets that requests may name; to decode some of the others takes quadratic time (punycode)."""

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem

__all__ = ["python_charset", "utf8"]

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

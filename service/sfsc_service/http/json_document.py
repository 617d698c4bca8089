"""JSON objects from clients, within bounds that are checked before anything is built.

    size     at most `max_bytes`, apart from images
    values   at most MAX_VALUES, going by brackets and commas
    keys     each once in its object: which of two values counts is nothing that a reader should have to guess
    depth    orjson refuses what is nested more than 1,024 deep

Images are most of a large document. They are cut out before it is parsed, which takes a search for quotes and no
look at what lies between them, and are not copied.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem

__all__ = ["Body", "read_json", "read_object"]

Body = bytes | bytearray
Buffer = bytes | memoryview

MAX_VALUES = 2**15
"""More than valid metadata, a filter and a vector have together. Brackets and commas in texts count as well."""
LONG_TEXT = 2**15
"""Texts of so many bytes are counted by numpy, which lets go of Python's lock."""
LONG_STRING = 1024
"""Strings of so many bytes are cut out of a document that would be too large with them."""
BACKSLASH = 0x5C
EXACT_INTEGERS = ("metadata", "filter")
"""Members whose integers must not be rounded."""
ROUNDED = 2.0**63
"""Integers that are less keep all their digits."""
MAX_DIGITS = 128
"""Of an integer that must not be rounded: what has more takes the longer to build, the square of its digits."""

_BACKSLASH = re.compile(rb"\\")
_KEY_END = re.compile(rb'"\s*:')


def read_object(body: Body, max_bytes: int, image: str = "image") -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        max_bytes: how large it may be apart from its images.
        image: the member that holds an image or a list of images. In a large document their texts come as views of
            the body, which have no escapes.

    Raises:
        Problem: invalid_json, body_too_large.
    """
    document = _read(body) if len(body) <= max_bytes else _read_cut(body, max_bytes, image)
    if not isinstance(document, dict):
        raise Problem("invalid_json", f"body: must be a JSON object, found {describe_value(document)}", "body")
    return document


def read_json(text: Body) -> Any:
    """Parse JSON text of any kind; integers keep all their digits.

    Raises:
        ValueError: it is not JSON, or has too many values.
    """
    _check_values(text)
    document, may_be_rounded = _fast(text)
    return _exact(text) if may_be_rounded else document


def _read(text: Body) -> Any:
    try:
        _check_values(text)
        document, may_be_rounded = _fast(text)
        if may_be_rounded and isinstance(document, dict) and document.keys() & EXACT_INTEGERS:
            return _exact(text)
        return document
    except (ValueError, RecursionError) as error:
        # Python's own parser takes NaN and Infinity, so that the problem can name their parameter.
        if b"NaN" in text or b"Infinity" in text:
            try:
                return _exact(text)
            except (ValueError, RecursionError):
                pass
        raise Problem("invalid_json", f"body: must be JSON, found: {error}", "body") from error


def _fast(text: Body) -> tuple[Any, bool]:
    """Parse JSON with orjson, and whether it may have rounded an integer.

    It keeps the last value of a key that an object has twice, and says nothing: then Python's parser is asked.
    """
    document = orjson.loads(text)
    members, may_be_rounded = _survey(document)
    # Every key has a colon; texts may have some too, or even end with \\" and one.
    if _count(text, b":") != members and sum(1 for _ in _KEY_END.finditer(text)) != members:
        _exact(text)
    return document, may_be_rounded


def _exact(text: Body) -> Any:
    """Parse JSON with Python's parser, which can say everything and is ten times slower. Raises ValueError."""
    document = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    try:
        # It takes half of a pair of surrogates for a character, which no answer could hold; orjson refuses it.
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.start + 1].encode("ascii", "backslashreplace").decode()
        raise ValueError(f"a text has a surrogate without its other half, {found}") from None
    return document


def _integer(digits: str) -> int:
    if (found := len(digits.removeprefix("-"))) > MAX_DIGITS:
        raise ValueError(f"an integer of {found} digits, which is more than {MAX_DIGITS}")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the key {describe_value(twice)} more than once")
    return members


def _survey(document: Any) -> tuple[int, bool]:
    """How many members all objects have, and whether a number may be an integer that was rounded.

    orjson rounds integers beyond 64 bits without a word.
    """
    members, may_be_rounded = 0, False
    pending: list[Any] = [[document]]
    for one in pending:
        for value in one.values() if type(one) is dict else one:
            kind = type(value)
            if kind is dict:
                members += len(value)
                pending.append(value)
            elif kind is list:
                pending.append(value)
            elif kind is float and not -ROUNDED < value < ROUNDED:
                may_be_rounded = True
    return members, may_be_rounded


def _check_values(text: Body) -> None:
    """Each value takes time and memory to build, far more than to count."""
    if (found := _count(text, b"[{,")) > MAX_VALUES:
        raise ValueError(f"{found} brackets and commas, which is more than {MAX_VALUES}")


def _count(text: Body, characters: bytes) -> int:
    """How often any of the ASCII characters stands in a text."""
    if len(text) < LONG_TEXT:
        return sum(text.count(one) for one in characters)
    codes = np.frombuffer(text, np.uint8)
    return sum(int(np.count_nonzero(codes == one)) for one in characters)


def _read_cut(body: Body, max_bytes: int, image: str) -> Any:
    """Parse a document without its long strings, then put them back where they belong."""
    mark = secrets.token_hex(8)  # a client cannot write what it cannot guess
    texts, strings = _cut(body, max_bytes)
    marks = [f"{mark}{at}" for at in range(len(strings))]
    document = _read(_joined(texts, [one.encode() for one in marks]))
    if not isinstance(document, dict):
        return document
    cut = dict(zip(marks, strings, strict=True))
    images = document.get(image)
    listed = images if isinstance(images, list) else [images]
    found = [one for one in listed if isinstance(one, str) and one in cut]
    if len(found) < len(cut):  # some are no images, and count
        used = set(found)
        kept = [one.encode() if one in used else cut[one] for one in marks]
        _check_kept(sum(len(part) for part in (*texts, *kept)), max_bytes)
        document = _read(_joined(texts, kept))
        images = document[image] if found else None
    if isinstance(images, list):
        document[image] = [_unescaped(cut[one]) if isinstance(one, str) and one in cut else one for one in images]
    elif isinstance(images, str) and images in cut:
        document[image] = _unescaped(cut[images])
    return document


def _unescaped(string: memoryview) -> memoryview | str:
    """What stood between quotes; some clients write / as \\/, and line breaks have to be escaped."""
    if not _BACKSLASH.search(string):
        return string
    try:
        text: str = orjson.loads(b'"%b"' % bytes(string))
        return text
    except orjson.JSONDecodeError as error:
        raise Problem("invalid_json", f"body: must be JSON, found in a text: {error}", "body") from error


def _cut(body: Body, max_bytes: int) -> tuple[list[memoryview], list[memoryview]]:
    """Split a document at its long strings: the texts around them, one more than strings, and the strings.

    A string that holds an escaped quote, or ends with a backslash, is no image and is not cut.
    """
    view = memoryview(body)
    texts: list[memoryview] = []
    strings: list[memoryview] = []
    begin = kept = 0
    opening = body.find(b'"')
    while opening >= 0:
        closing = body.find(b'"', opening + 1)
        is_image = closing - opening > LONG_STRING
        while closing >= 0 and body[closing - 1] == BACKSLASH:
            is_image = False
            _check_kept(kept + closing - begin, max_bytes)
            if not _is_escaped(body, opening, closing):
                break
            closing = body.find(b'"', closing + 1)
        if closing < 0:
            break
        if is_image:
            texts.append(view[begin : opening + 1])
            strings.append(view[opening + 1 : closing])
            kept += opening + 1 - begin
            begin = closing
        _check_kept(kept + closing - begin, max_bytes)
        opening = body.find(b'"', closing + 1)
    _check_kept(kept + len(body) - begin, max_bytes)
    texts.append(view[begin:])
    return texts, strings


def _is_escaped(body: Body, opening: int, quote: int) -> bool:
    """Whether an odd number of backslashes stands before a quote."""
    at = quote - 1
    while at > opening and body[at] == BACKSLASH:
        at -= 1
    return (quote - 1 - at) % 2 == 1


def _joined(texts: Sequence[Buffer], strings: Sequence[Buffer]) -> bytes:
    pairs = [part for pair in zip(texts, strings, strict=False) for part in pair]
    return b"".join([*pairs, texts[-1]])


def _check_kept(found: int, max_bytes: int) -> None:
    if found > max_bytes:
        raise Problem(
            "body_too_large",
            f"body: a JSON document must have at most {max_bytes} bytes apart from its images, found more",
            "body",
        )

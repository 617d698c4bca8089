"""What a terminal is given of texts that others wrote: no control characters, and no password of an address."""

import json
import re

__all__ = ["escaped", "without_password"]

_NEEDED = {"\u00a0", "\u3000", "\u200c", "\u200d"}
"""Spaces of file names, and what joins or parts the letters of Persian and the parts of an emoji."""
_ADDRESS = re.compile(r"(?=\w://)")
_BEFORE_USER = re.compile(r"(?::?//|:/(?!/))(?!\[USER:PASSWORD@\])")


def escaped(text: str) -> str:
    r"""The text with an escape of JSON for each character that is not printable; a terminal could act on those.

    >>> escaped("\x1b[31m猫 \x9b \u202e")
    '\\u001b[31m猫 \\u009b \\u202e'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _NEEDED else json.dumps(one)[1:-1] for one in text)


def without_password(text: str) -> str:
    """The text with … in place of the user and the password of an address.

    >>> without_password("no answer from http://bob:secret@127.0.0.1:8000")
    'no answer from http://…@127.0.0.1:8000'
    """
    return "".join(map(_without_user, _ADDRESS.split(text)))


def _without_user(part: str) -> str:
    """A part with one address at most, less what is between its // and the last @, or where a message has cut it.

    A password may hold anything, so what lies between an address and a later @ is hidden, too.
    """
    before = _BEFORE_USER.search(part)
    end = max(part.rfind(mark) for mark in ("@", "'…", '"…'))
    if before is None or end < before.end():
        return part
    return f"{part[: before.end()]}…{part[end:]}"

"""Cursors of pages: the id of the last item before, in the letters of an address."""

import base64

from sfsc_service.store.errors import InvalidCursorError, InvalidIdError
from sfsc_service.store.validation import check_ids

__all__ = ["decode_cursor", "encode_cursor"]


def encode_cursor(identifier: str) -> str:
    return base64.urlsafe_b64encode(identifier.encode()).decode()


def decode_cursor(cursor: str) -> str:
    try:
        identifier = base64.b64decode(cursor.encode(), b"-_", validate=True).decode()
        return check_ids([identifier])[0]
    except (ValueError, InvalidIdError):
        raise InvalidCursorError("cursor", "must be the `next` of an earlier page", f"{cursor[:80]!r}") from None

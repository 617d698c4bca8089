"""The cursor of a page: the id of its last item, as text that callers pass on unread."""

import base64

from sfsc_service.store.errors import InvalidCursorError, InvalidIdError
from sfsc_service.store.validation import check_ids

__all__ = ["decode_cursor", "encode_cursor"]


def encode_cursor(identifier: str) -> str:
    """The cursor that leads to what comes after an id."""
    return base64.urlsafe_b64encode(identifier.encode()).decode()


def decode_cursor(cursor: str) -> str:
    """The id of a cursor. Raises InvalidCursorError."""
    try:
        identifier = base64.b64decode(cursor.encode(), b"-_", validate=True).decode()
        return check_ids([identifier])[0]
    except (ValueError, InvalidIdError):
        raise InvalidCursorError("cursor", "must be the `next` of an earlier page", f"{cursor[:80]!r}") from None

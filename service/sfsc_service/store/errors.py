"""The errors of a store.

StoreError                        all of them; a `code` never changes, a message may
├── InvalidInputError             what the caller sent breaks a rule; nothing was written
│   ├── InvalidCollectionError    collection_invalid
│   ├── InvalidIdError            id_invalid
│   ├── SpaceMismatchError        space_mismatch
│   ├── DimensionMismatchError    dimension_mismatch
│   ├── InvalidWidthError         width_invalid
│   ├── InvalidVectorError        vector_invalid
│   ├── InvalidMetadataError      metadata_invalid
│   ├── InvalidImageError         picture_invalid
│   ├── InvalidFilterError        filter_invalid
│   ├── InvalidCursorError        cursor_invalid
│   ├── ExactSearchUnavailableError   exact_unavailable
│   └── LimitExceededError        limit_exceeded
├── OpenRefusedError              the store cannot be opened as asked
│   ├── StoreLockedError          store_locked
│   ├── FolderMismatchError       folder_mismatch
│   ├── DatabaseLostError         database_lost     the database, or its newest changes, are missing
│   └── DeviceUnavailableError    device_unavailable
└── StoreUnavailableError         the store cannot answer now
    ├── StoreBusyError            store_busy        the change has not happened
    ├── StoreClosedError          store_closed      the change has not happened
    ├── StoreFailedError          store_failed      the change has not happened
    └── OutcomeUnknownError       outcome_unknown   the change may have happened
"""

from typing import ClassVar

__all__ = [
    "DatabaseLostError",
    "DeviceUnavailableError",
    "DimensionMismatchError",
    "ExactSearchUnavailableError",
    "FolderMismatchError",
    "InvalidCollectionError",
    "InvalidCursorError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidImageError",
    "InvalidInputError",
    "InvalidMetadataError",
    "InvalidVectorError",
    "InvalidWidthError",
    "LimitExceededError",
    "OpenRefusedError",
    "OutcomeUnknownError",
    "SpaceMismatchError",
    "StoreBusyError",
    "StoreClosedError",
    "StoreError",
    "StoreFailedError",
    "StoreLockedError",
    "StoreUnavailableError",
]


class StoreError(Exception):
    """The base of all; `code` is for programs and stable, the message is for people."""

    code: ClassVar[str] = "store_error"


class InvalidInputError(StoreError):
    """A parameter breaks a rule; `position` counts the items or queries of the call from 0."""

    code = "input_refused"

    def __init__(self, parameter: str, rule: str, found: str, position: int | None = None) -> None:
        super().__init__(f"{parameter}: {rule}; found {found}")
        self.parameter = parameter
        self.rule = rule
        self.found = found
        self.position = position


class InvalidCollectionError(InvalidInputError):
    code = "collection_invalid"


class InvalidIdError(InvalidInputError):
    code = "id_invalid"


class SpaceMismatchError(InvalidInputError):
    code = "space_mismatch"


class DimensionMismatchError(InvalidInputError):
    code = "dimension_mismatch"


class InvalidWidthError(InvalidInputError):
    code = "width_invalid"


class InvalidVectorError(InvalidInputError):
    code = "vector_invalid"


class InvalidMetadataError(InvalidInputError):
    code = "metadata_invalid"


class InvalidImageError(InvalidInputError):
    code = "picture_invalid"


class InvalidFilterError(InvalidInputError):
    code = "filter_invalid"


class InvalidCursorError(InvalidInputError):
    code = "cursor_invalid"


class ExactSearchUnavailableError(InvalidInputError):
    """An exact search was asked of a store that can search approximately only."""

    code = "exact_unavailable"


class LimitExceededError(InvalidInputError):
    code = "limit_exceeded"


class OpenRefusedError(StoreError):
    code = "open_refused"


class StoreLockedError(OpenRefusedError):
    code = "store_locked"


class FolderMismatchError(OpenRefusedError):
    code = "folder_mismatch"


class DatabaseLostError(OpenRefusedError):
    """Images, vectors or acknowledged changes are there that the database should know and does not."""

    code = "database_lost"


class DeviceUnavailableError(OpenRefusedError):
    code = "device_unavailable"


class StoreUnavailableError(StoreError):
    code = "store_unavailable"


class StoreBusyError(StoreUnavailableError):
    """Too many changes are waiting already; the same call may succeed later."""

    code = "store_busy"


class StoreClosedError(StoreUnavailableError):
    code = "store_closed"


class StoreFailedError(StoreUnavailableError):
    """The storage failed (disk full, I/O error), or the store is damaged; a change has not happened."""

    code = "store_failed"


class OutcomeUnknownError(StoreUnavailableError):
    """The commit of a change failed, so that the change may have happened or not; it is safe to repeat it.

    An fsync that failed may still have reached the disk: the change may be found after a crash.
    """

    code = "outcome_unknown"

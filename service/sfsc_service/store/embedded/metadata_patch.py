"""Patch an item's metadata: read it, merge, and replace the version that was read, if that is still current."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sfsc_service.store.embedded.changes import AppliedChange
from sfsc_service.store.embedded.reads import Reads
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.write_queue import WriteRequest
from sfsc_service.store.errors import StoreBusyError
from sfsc_service.store.merge_patch import merged
from sfsc_service.store.protocol import StoredItem
from sfsc_service.store.validation import check_metadata

__all__ = ["patch_metadata"]

# Each attempt but the last one fails because another change of the same item was committed.
_ATTEMPTS = 100


def patch_metadata(
    reads: Reads, submit: Callable[[WriteRequest], AppliedChange], id: str, patch: Mapping[str, Any]
) -> StoredItem | None:
    """The item as it is then; None where there is none. Raises as `protocol.Store.patch_metadata`."""
    check_metadata(dict(patch))
    for _ in range(_ATTEMPTS):
        if (found := reads.current(id)) is None:
            return None
        sequence, item = found
        metadata = merged(item.metadata, patch)
        change = partial(
            DatabaseWriter.replace_metadata,
            sequence=sequence,
            metadata=check_metadata(metadata),
            vector=item.vector,
        )
        if submit(WriteRequest(change, items=1)).outcomes:
            return replace(item, metadata=metadata)
    raise StoreBusyError(f"id: the item {id!r} was changed {_ATTEMPTS} times while it was being patched")

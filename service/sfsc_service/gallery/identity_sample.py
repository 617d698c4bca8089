"""Which items are measured on: a sample of identities, drawn in one pass over any number of items.

An identity is in the sample if its hash is among the smallest, so all its items have been seen by the end of the
pass: a hash that is too large once will never be small enough.
"""

import hashlib
import heapq
import json
from typing import Any

__all__ = ["MAX_PER_IDENTITY", "IdentitySample", "identity_of"]

MAX_PER_IDENTITY = 8


class IdentitySample:
    """At most `most` items, of at most MAX_PER_IDENTITY each; `seed`: another one draws others."""

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._salt = most, seed.to_bytes(8, "little")
        self._items: dict[str, list[str]] = {}
        self._largest: list[tuple[int, str]] = []
        """Negated hashes of the identities, as a heap: the largest hash first."""

    def add(self, identity: str, id: str) -> None:
        """See one item."""
        if (kept := self._items.get(identity)) is not None:
            if len(kept) < MAX_PER_IDENTITY:
                kept.append(id)
            return
        digest = hashlib.blake2b(identity.encode(), digest_size=8, salt=self._salt).digest()
        entry = (-int.from_bytes(digest, "little"), identity)
        if len(self._largest) < self._most:
            heapq.heappush(self._largest, entry)
        elif entry > self._largest[0]:
            del self._items[heapq.heapreplace(self._largest, entry)[1]]
        else:
            return
        self._items[identity] = [id]

    def items(self) -> list[tuple[str, str]]:
        """Pairs of identity and id, identity by identity, as they were drawn."""
        drawn = sorted(self._largest, reverse=True)
        pairs = [(identity, item_id) for _, identity in drawn for item_id in self._items[identity]]
        return pairs[: self._most]


def identity_of(metadata: dict[str, Any], path: tuple[str, ...]) -> str | None:
    """What a field of the metadata names; None where it is missing, null, a list or an object."""
    value: Any = metadata
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return json.dumps(value) if isinstance(value, str | int | float) else None

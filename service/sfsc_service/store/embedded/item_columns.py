"""Checked items, column by column, as the writer takes them."""

from collections.abc import Sequence

from sfsc_service.store.embedded.changes import ItemColumns
from sfsc_service.store.protocol import Item
from sfsc_service.store.validation import CheckedItems

__all__ = ["columns_of"]


def columns_of(items: Sequence[Item], checked: CheckedItems, digests: list[str | None]) -> ItemColumns:
    """The columns of `items`, none of which was refused; `digests`: of their images."""
    return ItemColumns(
        ids=[item.id for item in items],
        spaces=[item.space for item in items],
        widths=[item.width for item in items],
        reasons=[item.reason for item in items],
        metadata=checked.metadata,
        image_digests=digests,
        media_types=[item.image.media_type if item.image else None for item in items],
        vectors=checked.vectors,
    )

"""Checked items, column by column, as the writer takes them."""

from collections.abc import Collection, Sequence

from sfsc_service.store.embedded.changes import ItemColumns, VectorColumns
from sfsc_service.store.protocol import Item, VectorChange
from sfsc_service.store.validation import CheckedItems, accepted_changes

__all__ = ["changed_columns", "columns_of"]


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


def changed_columns(changes: Sequence[VectorChange], spaces: Collection[str], dimension: int) -> VectorColumns:
    """The columns of `changes`. Raises InvalidInputError: one of them is refused."""
    vectors = accepted_changes(changes, spaces, dimension)
    return VectorColumns([one.space for one in changes], [one.width for one in changes], vectors)

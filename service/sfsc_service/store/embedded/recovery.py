"""Filling the index: the database says which versions there are, the segments have their vectors."""

from sfsc_service.store.embedded.damage import Damage
from sfsc_service.store.embedded.index.replacement import MappedRows
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.sqlite.reader import DatabaseReader
from sfsc_service.store.errors import StoreFailedError

__all__ = ["fill_index"]


def fill_index(
    index: VectorIndex, reader: DatabaseReader, segments: SegmentFolder, last_sequence: int, damage: Damage
) -> tuple[bool, int]:
    """Replace what is in the index; versions without a vector are named as damaged.

    `last_sequence`: of the newest change that may be committed. Returns whether the database has all rows that it
    should have, and the highest number that is in any file.

    Raises:
        StoreFailedError: there are items and no vectors at all.
        FolderMismatchError: a file belongs to another database.
        DatabaseError, OSError: database or files cannot be read.
    """
    contents = reader.contents()
    if len(contents.sequences) and segments.empty:
        raise StoreFailedError(
            f"the database has {len(contents.sequences)} items, and {segments.folder.name}/ has no vectors; put a "
            f"copy of {segments.folder} in its place"
        )
    loaded = segments.load(contents.sequences, last_sequence)
    mapped = [
        MappedRows(part.segment.path, part.segment.sequences, part.segment.vectors, part.used)
        for part in loaded.segments
    ]
    index.fill(mapped, loaded.sequences, loaded.vectors)
    if len(loaded.lost):
        damage.add({row.sequence: row.id for row in reader.rows_at(loaded.lost)}, "vectors")
    index.drop(loaded.lost)
    return contents.complete, loaded.last_sequence

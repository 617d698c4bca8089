"""A gallery is written anew in another folder: the same items, with vectors of another space.

Invariants:
- Nothing of the source is changed. Images, which never change, are hard links where there can be such.
- Vectors and images are durable before the rows that need them commit. So whatever was added before a kill is
  there, whole, and is not asked for again.
- An item is taken over from an earlier, interrupted call only while the source has it unchanged, and only if its
  vector was made of its image: the others are made anew in no time, and may be wanted otherwise.
- The source may be in use, as far as `add` is concerned; `finish` wants it at rest.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.embedded.acknowledged import AcknowledgedMark
from sfsc_service.store.embedded.backup import link_file, sync_folders
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.check import open_reader
from sfsc_service.store.embedded.images import digest_of
from sfsc_service.store.embedded.opening import ACKNOWLEDGED, DATABASE, IMAGES, SEGMENTS, new_gallery_number
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.segments.lookup import VectorLookup, vector_files
from sfsc_service.store.embedded.sqlite.reader import DatabaseReader, ItemRow
from sfsc_service.store.embedded.sqlite.repairs import remove_versions
from sfsc_service.store.embedded.sqlite.row_checksum import row_checksum
from sfsc_service.store.embedded.sqlite.schema import committed_sequence
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.protocol import Float32, WidthReason

__all__ = ["GalleryRewrite", "GallerySource", "ItemRow", "RewrittenItem"]

_ROWS_AT_ONCE = 500
_ROWS_PER_SEGMENT = 65_536
_PARTS = 256
_EMBEDDED: WidthReason = "requested"
_NOT_EMBEDDED: WidthReason = "vector"
_ROW_BYTES = 8
"""A number beside each vector."""


class RewrittenItem(NamedTuple):
    """An item of the source, `row`, with its new vector [D].

    `embedded`: whether the vector was made of the image. `has_image`: whether there is one that can be read.
    """

    row: ItemRow
    width: str
    vector: Float32
    embedded: bool
    has_image: bool


class GallerySource:
    """The gallery in a folder, which stays as it is; its database is read in short transactions.

    Attributes:
        with_image, without_image: the numbers of the items that have an image and of those that have none.
        damaged: the ids of items whose row is not as it was written.

    Raises as `check.open_reader`, and OSError, DatabaseError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with_image, without_image, self.damaged = array("q"), array("q"), list[str]()
        for rows in self.rows():
            self.damaged += [row.id for row in rows if not row.whole]
            with_image.extend(row.sequence for row in rows if row.image is not None)
            without_image.extend(row.sequence for row in rows if row.image is None)
        self.with_image, self.without_image = np.array(with_image, np.int64), np.array(without_image, np.int64)
        with closing(open_reader(folder)) as reader:
            self._meta = reader.meta()
            self.spaces = frozenset(reader.spaces())

    @property
    def dimension(self) -> int:
        """Of its vectors."""
        return self._meta["dimension"]

    @property
    def last_sequence(self) -> int:
        """The number of its newest change."""
        return self._meta["last_sequence"]

    def __len__(self) -> int:
        """The number of items."""
        return len(self.with_image) + len(self.without_image)

    def rows(self) -> Iterator[list[ItemRow]]:
        """All rows, ascending by number, a page at a time."""
        with closing(open_reader(self.folder)) as reader:
            yield from _pages(reader)

    def rows_at(self, sequences: Int64) -> list[ItemRow]:
        """The rows of these versions, ascending; one that is no longer current is left out."""
        with closing(open_reader(self.folder)) as reader:
            return reader.rows_at(sequences)

    def vectors(self) -> VectorLookup:
        """Its vectors; no store may have the folder open. Raises as `VectorLookup`."""
        meta = self._meta
        files = vector_files(self.folder / SEGMENTS)
        return VectorLookup(files, meta["dimension"], meta["gallery"], meta["last_sequence"])

    def image(self, row: ItemRow) -> bytes | None:
        """The image of an item; None where it is missing or damaged. Raises OSError."""
        if row.image is None:
            return None
        try:
            data = _image_path(self.folder, row.image).read_bytes()
        except FileNotFoundError:
            return None
        return data if digest_of(data) == row.image else None

    def bytes_for_copy(self, target: Path, dimension: int) -> int:
        """Free space that a copy in `target` takes at most, with vectors of another dimension. Raises OSError."""
        vectors = 2 * len(self) * (4 * dimension + _ROW_BYTES)  # in parts, and then in order
        database = 2 * (self.folder / DATABASE).stat().st_size
        if self.folder.stat().st_dev == target.stat().st_dev:
            return vectors + database
        return vectors + database + sum(path.stat().st_size for path in (self.folder / IMAGES).glob("??/??/*"))


class GalleryRewrite:
    """The copy of `source` in `folder`, which is made or gone on with; used by one thread.

    Raises:
        FolderMismatchError: the copy was begun for another space or dimension.
        StoreFailedError, OSError, DatabaseError: it cannot be read or written.
    """

    def __init__(self, source: GallerySource, folder: Path, space: str, dimension: int) -> None:
        self._source, self._folder, self._space, self._dimension = source, folder, space, dimension
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        begun = committed_sequence(folder / DATABASE, dimension, {space}) is not None
        self._done = [self._taken_over() if begun else np.empty(0, np.int64)]
        self._database = DatabaseWriter(folder / DATABASE, space, dimension, (), new_gallery_number())
        self._segments = SegmentFolder(folder / SEGMENTS, dimension, self._database.gallery)
        half = _ROWS_PER_SEGMENT // 2 * (4 * dimension + _ROW_BYTES)
        self._parts = [path for path in vector_files(self._segments.folder) if path.stat().st_size < half]

    @property
    def done(self) -> Int64:
        """The numbers of the items that need not be added, ascending."""
        return np.sort(np.concatenate(self._done))

    def image(self, row: ItemRow) -> bytes | None:
        """The image of an item, which the copy has from now on; None where it is missing or damaged.

        Raises OSError.
        """
        if row.image is None:
            return None
        path = _image_path(self._folder, row.image)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not path.exists():
                link_file(_image_path(self._source.folder, row.image), path)
        except FileNotFoundError:
            return None
        data = path.read_bytes()
        if digest_of(data) == row.image:
            return data
        path.unlink()
        return None

    def add(self, items: Sequence[RewrittenItem]) -> None:
        """Store items durably, all of one call or none; `image` was called for those that have one.

        Raises StoreFailedError, OSError, DatabaseError.
        """
        if not items:
            return
        sequences = np.array([item.row.sequence for item in items], np.int64)
        order = np.argsort(sequences)
        images = (_image_path(self._folder, item.row.image) for item in items if item.has_image and item.row.image)
        sync({folder for path in images for folder in list(path.parents)[:3]})
        vectors = np.stack([items[place].vector for place in order.tolist()])
        self._parts.append(self._segments.write([(sequences[order], vectors)], len(items)).path)
        self._database.copy_rows([self._row(item) for item in items])
        self._database.log.empty()
        self._done.append(sequences)
        if len(self._parts) >= _PARTS:
            self._join_parts()

    def finish(self) -> None:
        """Put the vectors in order, and make everything durable: a gallery that can be served.

        Raises StoreFailedError, OSError, DatabaseError.
        """
        self._database.copy_meta((), max(0, self._source.last_sequence - self._database.last_sequence))
        last = self._database.last_sequence
        files = self._lookup(vector_files(self._segments.folder))
        done = self.done
        if not np.isin(done, files.sequences).all():
            raise StoreFailedError(f"{self._folder} has lost vectors; delete it and repeat the command")
        for first in range(0, len(done), _ROWS_PER_SEGMENT):
            part = done[first : first + _ROWS_PER_SEGMENT]
            self._segments.write(_pieces(files, part), len(part))
        self._segments.retire(files.paths)
        self.close()
        mark = AcknowledgedMark(self._folder / ACKNOWLEDGED)
        mark.set(last)
        mark.close()
        sync([self._folder / DATABASE, self._folder / ACKNOWLEDGED])
        sync_folders(self._folder)

    def close(self) -> None:
        """Close the files; the copy can be gone on with. Further calls do nothing."""
        self._segments.close()
        self._database.close()

    def _taken_over(self) -> Int64:
        """The versions that an earlier call has embedded and that are as in the source; the others are removed."""
        kept, stale = list[int](), list[int]()
        with closing(DatabaseReader(self._folder / DATABASE)) as reader:
            for rows in _pages(reader):
                sequences = np.array([row.sequence for row in rows], np.int64)
                wanted = {row.sequence: _content(row) for row in self._source.rows_at(sequences)}
                for row in rows:
                    same = row.whole and row.reason == _EMBEDDED and wanted.get(row.sequence) == _content(row)
                    (kept if same else stale).append(row.sequence)
        if stale:
            remove_versions(self._folder / DATABASE, stale)
        return np.array(kept, np.int64)

    def _lookup(self, paths: Sequence[Path]) -> VectorLookup:
        return VectorLookup(paths, self._dimension, self._database.gallery, self._database.last_sequence)

    def _join_parts(self) -> None:
        """One file in the place of many: all are open at a time in the end."""
        files = self._lookup(self._parts)
        self._segments.write(_pieces(files, files.sequences), len(files.sequences))
        self._segments.retire(files.paths)
        self._parts = []

    def _row(self, item: RewrittenItem) -> tuple[object, ...]:
        reason = _EMBEDDED if item.embedded else _NOT_EMBEDDED
        row = item.row._replace(space=self._space, width=item.width, reason=reason)
        if not item.has_image:
            row = row._replace(image=None, media_type=None)
        return (*row[:-1], row_checksum(row[:-1]))


def _pages(reader: DatabaseReader) -> Iterator[list[ItemRow]]:
    above = -(2**63)
    while rows := reader.rows_above(above, _ROWS_AT_ONCE):
        yield rows
        above = rows[-1].sequence


def _content(row: ItemRow) -> tuple[object, ...]:
    """What the copy of a row has in common with it."""
    return row.id, row.metadata, row.image, row.media_type, row.created


def _image_path(folder: Path, digest: str) -> Path:
    return folder / IMAGES / digest[:2] / digest[2:4] / digest


def _pieces(files: VectorLookup, sequences: Int64) -> Iterator[tuple[Int64, Float32]]:
    for first in range(0, len(sequences), _ROWS_AT_ONCE):
        part = sequences[first : first + _ROWS_AT_ONCE]
        yield part, files.at(part)

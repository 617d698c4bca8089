"""Copy a data folder while the store that has it open goes on.

The copy of each collection is that of one moment: the database as SQLite's online backup takes it, and then every
file that its rows need. What was replaced or deleted between those two steps may be gone already; then both are
repeated. Only what is new is copied again, so each round is shorter than the one before.

- Images and segments never change under their name: on the same file system, the copy has hard links to them.
- The copy appears under its name when it is complete and durable (partial_copy.py).
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.embedded.acknowledged import AcknowledgedMark
from sfsc_service.store.embedded.check import Look, Progress, open_reader
from sfsc_service.store.embedded.opening import ACKNOWLEDGED, DATABASE, IMAGES, SEGMENTS
from sfsc_service.store.embedded.partial_copy import check_target, partial_copy
from sfsc_service.store.embedded.segments.inventory import take_inventory
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.stores import collection_folder, collection_names
from sfsc_service.store.errors import OpenRefusedError, StoreError, StoreFailedError

__all__ = ["CopiedFolder", "copy_folder", "link_file", "sync_folders"]

_ROUNDS = 20
_SYNCED_AT_ONCE = 1_000
_PIECE_BYTES = 2**23
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


class CopiedFolder(NamedTuple):
    """How many items and images a copy has in all its collections, and how many these are."""

    items: int
    images: int
    collections: int


class _CopiedGallery(NamedTuple):
    """How many items and images the copy of one collection has, and up to which change."""

    items: int
    images: int
    last_sequence: int


class _Needed(NamedTuple):
    """What is missing in a copy that its rows need: digests of images, and numbers of vectors."""

    images: frozenset[str]
    vectors: frozenset[int]


def copy_folder(
    source: Path,
    target: Path,
    progress: Progress = lambda _done, _total: None,
    beside: Collection[str] = (),
    look: Look = lambda: None,
) -> CopiedFolder:
    """Copy the galleries of all collections in the folder `source` to `target`, a new or an empty folder.

    A collection that is removed meanwhile may be left out, and one that is made meanwhile is.

    Args:
        beside: patterns of names of further files, which others keep in the folder and which go with it. They are
            copied before the items and again after them, so what the items need is in the copy.
        look: called every now and then; what it raises ends the copy, and nothing is left of it.

    Raises:
        DatabaseLostError, FolderMismatchError: `source` is no gallery of this version.
        OpenRefusedError: there is something at `target` already, or it is within `source`.
        StoreFailedError: `source` lacks images or vectors that its rows need, or changes too fast.
        OSError, DatabaseError: a file cannot be read or written.
    """
    check_target(target)
    open_reader(source).close()
    if source.resolve() in target.resolve().parents:
        raise OpenRefusedError(f"target: must lie outside of {source}, which is copied; found {target}")
    copy = _Copy(progress, look)
    with partial_copy(target) as staged:
        default = copy.gallery(source, staged, beside)
        others = [copy.unless_removed(source, staged, name) for name in collection_names(source)[1:]]
        _copy_beside(source, staged, beside)
        _put_in_place(staged, target, look)
    copied = [default, *(one for one in others if one is not None)]
    return CopiedFolder(sum(one.items for one in copied), sum(one.images for one in copied), len(copied))


class _Copy(NamedTuple):
    """Copies galleries; `progress` and `look` as in `copy_folder`."""

    progress: Progress
    look: Look

    def unless_removed(
        self, source: Path, target: Path, name: str, *, again: bool = True
    ) -> _CopiedGallery | None:
        """Copy a collection; where that fails, it may have been removed meanwhile, and made anew: `again` then."""
        folder, copy = collection_folder(source, name), collection_folder(target, name)
        try:
            return self.gallery(folder, copy)
        except (StoreError, OSError, DatabaseError):
            if folder.exists() and not again:
                raise
            shutil.rmtree(copy, ignore_errors=True)
        return self.unless_removed(source, target, name, again=False) if folder.exists() else None

    def gallery(self, source: Path, staged: Path, beside: Collection[str] = ()) -> _CopiedGallery:
        """Copy one collection; raises as `copy_folder`."""
        open_reader(source).close()
        for name in (IMAGES, SEGMENTS):
            (staged / name).mkdir(parents=True)
        _copy_beside(source, staged, beside)
        before: _Needed | None = None
        for _ in range(_ROUNDS):
            copied, missing = self._round(source, staged)
            if not missing.images and not missing.vectors:
                _finish(staged, copied, self.look)
                return copied
            if before is not None and (missing.images & before.images or missing.vectors & before.vectors):
                break  # no row can lack the same file in two moments, unless it is damaged
            before = missing
        found = f"{len(missing.images)} images and {len(missing.vectors)} vectors"
        raise StoreFailedError(f"{source} lacks {found} that its items need; `sfsc check {source}` names them")

    def _round(self, source: Path, staged: Path) -> tuple[_CopiedGallery, _Needed]:
        """Copy the database as it is now, and what its rows need and the copy does not have yet."""
        for path in staged.glob(f"{DATABASE}*"):
            path.unlink()
        with closing(open_reader(source)) as reader:
            reader.copy_to(staged / DATABASE, self.look)
        _copy_vectors(source / SEGMENTS, staged / SEGMENTS, self.look)
        with closing(open_reader(staged)) as reader:
            meta, digests, known = reader.meta(), reader.image_digests(), reader.contents().sequences
        images = _copy_images(source / IMAGES, staged / IMAGES, digests, self.progress)
        found = take_inventory(
            staged / SEGMENTS, meta["dimension"], meta["gallery"], meta["last_sequence"], self.look
        )
        vectors = known[~np.isin(known, found.sequences)]
        copied = _CopiedGallery(len(known), len(digests), meta["last_sequence"])
        return copied, _Needed(frozenset(images), frozenset(vectors.tolist()))


def _copy_vectors(source: Path, target: Path, look: Look) -> None:
    """Logs, which grow, are copied each time, and segments once; one that is gone has been merged into another."""
    for path in [*source.glob("[0-9]*.log"), *source.glob("[0-9]*.segment")]:
        copy = target / path.name
        look()
        try:
            if path.suffix == ".log":
                _copy_file(path, copy, look)
            elif not copy.exists():
                link_file(path, copy, look)
        except FileNotFoundError:
            continue


def _copy_images(source: Path, target: Path, digests: Collection[str], progress: Progress) -> list[str]:
    """Copy the images that are not there yet; returns those that were not found."""
    missing = []
    for number, digest in enumerate(digests):
        place = Path(digest[:2], digest[2:4], digest)
        if not (target / place).exists():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            try:
                link_file(source / place, target / place)
            except FileNotFoundError:
                missing.append(digest)
        progress(number + 1, len(digests))
    return missing


def _copy_beside(source: Path, target: Path, patterns: Iterable[str]) -> None:
    for path in [path for pattern in patterns for path in source.glob(pattern)]:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, target / path.name)
            sync([target / path.name])


def link_file(source: Path, target: Path, look: Look = lambda: None) -> None:
    """Give a file that never changes a second name, or copy it where that cannot be. Raises OSError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        unfinished = target.with_name(f".{target.name}.tmp")
        _copy_file(source, unfinished, look)
        unfinished.rename(target)


def _copy_file(source: Path, target: Path, look: Look) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(_PIECE_BYTES):
            written.write(piece)
            look()
    sync([target])


def _finish(staged: Path, copied: _CopiedGallery, look: Look) -> None:
    """Remove images of earlier rounds, and make the files durable."""
    with closing(open_reader(staged)) as reader:
        digests = set(reader.image_digests())
    for path in (staged / IMAGES).glob("??/??/*"):
        look()
        if path.name not in digests:
            path.unlink()
    for path in staged.glob(f"{DATABASE}-*"):
        path.unlink()  # what looking at the copy has left; nothing was written
    mark = AcknowledgedMark(staged / ACKNOWLEDGED)
    mark.set(copied.last_sequence)
    mark.close()
    sync([staged / DATABASE, staged / ACKNOWLEDGED])


def _put_in_place(staged: Path, target: Path, look: Look) -> None:
    """Make the folders durable, and give the copy its name."""
    sync_folders(staged, look)
    check_target(target)  # another copy may have been put there meanwhile; an empty folder is replaced
    staged.rename(target)
    sync([target.parent])


def sync_folders(folder: Path, look: Look = lambda: None) -> None:
    """Make the names in a folder, and in all folders within it, durable. Raises OSError."""
    waiting = [*(path for path in folder.rglob("*") if path.is_dir()), folder]
    for first in range(0, len(waiting), _SYNCED_AT_ONCE):
        look()
        sync(waiting[first : first + _SYNCED_AT_ONCE])

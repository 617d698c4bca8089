"""Moving the galleries of a data folder to a bundle of another embedding space.

Every stored image is embedded by the new bundle into a copy of the data folder, which then takes its place.

Invariants:
- The data folder is read only, until it and the whole copy, which is durable then, change places in one step.
- Ids, metadata, times, images and collections are as before; vector, space, width and its reason are new.
- Nothing is left out silently: an item without an image that can be embedded is dropped or mapped if that was
  asked for, and otherwise keeps the copy from taking the folder's place.
- What was embedded before an interruption is not embedded again. The copy says for which network it was begun.
- Images may be embedded while a service has the data folder open; all else needs it at rest, and leaves out of the
  copy, or makes anew, what has changed since.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.folder import Bundle
from sfsc_bundle.linear_maps import apply_map
from sfsc_bundle.manifest import Manifest
from sfsc_bundle.retrieval import Floats
from sfsc_service.engine.offline_embedding import OfflineEmbedder, UnusableImage
from sfsc_service.errors import StartError
from sfsc_service.gallery.space_map import FittedSpaceMap, fit_space_map, images_for_map, images_needed
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.lock import FolderLock
from sfsc_service.store.embedded.reserve import MIN_FREE_BYTES
from sfsc_service.store.embedded.rewriting import GalleryRewrite, GallerySource, ItemRow, RewrittenItem
from sfsc_service.store.embedded.stores import COLLECTIONS, collection_folder
from sfsc_service.store.errors import FolderMismatchError, OpenRefusedError, StoreFailedError

__all__ = [
    "STATE",
    "LeftItem",
    "Reembedding",
    "Sources",
    "check_free_space",
    "check_sources",
    "fit_on_images",
    "needs_nothing",
    "opened_width",
]

STATE = "reembed.json"
"""Beside the copy's files, until it has taken the folder's place."""

_IMAGES_AT_ONCE, _IMAGE_BYTES_AT_ONCE = 256, 2**26
_ROWS_AT_ONCE = 256

Sources = Mapping[str, GallerySource]
"""By collection, `default` first."""
Progress = Callable[[int, int], None]


class LeftItem(NamedTuple):
    """An item with an image that cannot be embedded, and why."""

    collection: str
    id: str
    reason: str


def needs_nothing(sources: Sources, manifest: Manifest) -> bool:
    """Whether the bundle can serve the galleries as they are, by the store's rule for opening a folder."""
    known = {manifest.space, *manifest.compatible_with}
    return all(one.spaces <= known and one.dimension == manifest.dimension for one in sources.values())


def check_sources(sources: Sources) -> None:
    """Raises StoreFailedError: rows are damaged; FolderMismatchError: collections do not fit together."""
    for name, source in sources.items():
        if source.damaged:
            raise StoreFailedError(
                f"{len(source.damaged)} items of the collection {name} are damaged, {source.damaged[0]!r} among "
                "them; `sfsc check --repair` goes on without them"
            )
    if len(found := {source.dimension for source in sources.values()}) > 1:
        raise FolderMismatchError(f"folder: collections must have vectors of one dimension; found {sorted(found)}")


def check_free_space(sources: Sources, folder: Path, dimension: int) -> None:
    """Raises StoreFailedError: the disk has no room for the copy in `folder`, which may not exist yet; OSError."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    needed = MIN_FREE_BYTES + sum(one.bytes_for_copy(place, dimension) for one in sources.values())
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.stat().st_nlink == 1)
    if (free := shutil.disk_usage(place).free) + there < needed:
        raise StoreFailedError(f"reembed needs {needed} bytes of free disk space; found {free}")


def fit_on_images(sources: Sources, embedder: OfflineEmbedder) -> FittedSpaceMap:
    """A map from the present vectors to those of `embedder`, fitted on items whose image it embeds.

    Raises StartError: there are too few such items, or the map is of no use. OSError, DatabaseError.
    """
    (dimension,) = {one.dimension for one in sources.values()}
    old, new = [np.empty((0, dimension), np.float32)], [np.empty((0, embedder.manifest.dimension), np.float32)]
    rng, seen = np.random.default_rng(0), set[str | None]()
    for name, share in _shares(sources, images_for_map(dimension), rng).items():
        source, vectors = sources[name], sources[name].vectors()
        for first in range(0, len(share), _ROWS_AT_ONCE):
            rows = source.rows_at(np.sort(share[first : first + _ROWS_AT_ONCE]))
            wanted = {row.image: row for row in rows if row.image not in seen and row.sequence in vectors}
            seen |= wanted.keys()
            pairs = [(row, image) for row in wanted.values() if (image := source.image(row)) is not None]
            made = embedder.embed([image for _, image in pairs])
            kept = [place for place, one in enumerate(made) if not isinstance(one, UnusableImage)]
            if kept:
                old.append(vectors.at(np.array([pairs[place][0].sequence for place in kept], np.int64)))
                new.append(np.stack([np.asarray(made[place]) for place in kept]))
    before, after = np.concatenate(old), np.concatenate(new)
    if len(before) < (needed := images_needed(dimension)):
        rule = f"at least {needed} items with an image are needed to fit a map of {dimension} numbers"
        raise StartError(f"map: {rule}; found {len(before)}")
    order = rng.permutation(len(before))
    return fit_space_map(before[order], after[order])


def opened_width(bundle: Bundle, width: str | None) -> str:
    """The width to embed at, the widest where none is named. Raises StartError: the bundle has none such."""
    widths = bundle.manifest.widths
    if width is not None and width not in widths:
        raise StartError(f"width: must be one of {', '.join(widths)}, found {width}")
    return width or widths[-1]


class Reembedding:
    """The copy in `folder` of the galleries `sources`, begun or gone on with; to be closed.

    Raises:
        StoreLockedError: another process works on it.
        OpenRefusedError: there is something else in the folder.
        StoreFailedError, OSError, DatabaseError: it cannot be read or written.
    """

    def __init__(self, sources: Sources, folder: Path, embedder: OfflineEmbedder) -> None:
        self._sources, self.folder, self._embedder = sources, folder, embedder
        _claim(folder, embedder)
        manifest = embedder.manifest
        self._copies = dict[str, GalleryRewrite]()
        with ExitStack() as close_on_error:
            self._lock = FolderLock(folder)
            close_on_error.callback(self.close)
            _delete_other_collections(folder, sources)
            for name, source in sources.items():
                place = collection_folder(folder, name)
                self._copies[name] = GalleryRewrite(source, place, manifest.space, manifest.dimension)
            close_on_error.pop_all()

    def embed_images(self, progress: Progress) -> list[LeftItem]:
        """Embed every image that is not embedded yet; the items whose image cannot be.

        `progress` is told how many images are done, and of how many.

        Raises StoreFailedError, OSError, DatabaseError.
        """
        left = list[LeftItem]()
        total = sum(len(one.with_image) for one in self._sources.values())
        done = self.items
        progress(done, total)
        for name, source in self._sources.items():
            copy = self._copies[name]
            for pairs in _image_batches(source, copy):
                made = self._embedder.embed([image or b"" for _, image in pairs])
                items = [
                    RewrittenItem(row, self._embedder.width, vector, embedded=True, has_image=True)
                    for (row, _), vector in zip(pairs, made, strict=True)
                    if not isinstance(vector, UnusableImage)
                ]
                copy.add(items)
                left += [
                    LeftItem(name, row.id, _reason(image, why))
                    for (row, image), why in zip(pairs, made, strict=True)
                    if isinstance(why, UnusableImage)
                ]
                done += len(pairs)
                progress(done, total)
        return left

    @property
    def items(self) -> int:
        """How many items the copy has, those of interrupted calls among them."""
        return sum(len(copy.done) for copy in self._copies.values())

    def map_others(self, values: Floats) -> int:
        """Add all other items with their present vector, mapped; how many.

        Raises StartError: the map takes the direction from a vector. StoreFailedError, OSError, DatabaseError.
        """
        mapped = 0
        for name, source in self._sources.items():
            copy, vectors = self._copies[name], None
            for rows in _missing(source.rows(), copy.done):
                vectors = vectors or source.vectors()
                if lost := [row.id for row in rows if row.sequence not in vectors]:
                    raise StoreFailedError(
                        f"the vector of the item {lost[0]!r} is damaged; run sfsc check --repair"
                    )
                found = apply_map(vectors.at(np.array([row.sequence for row in rows], np.int64)), values)
                if not np.isfinite(found).all():
                    raise StartError("map: must leave every vector a direction; found one that becomes zero")
                copy.add([self._mapped(copy, row, vector) for row, vector in zip(rows, found, strict=True)])
                mapped += len(rows)
        return mapped

    def finish(self) -> int:
        """Make the copy a data folder that can be served; the number of its items.

        Raises StoreFailedError, OSError, DatabaseError.
        """
        items = self.items
        for name in reversed(list(self._copies)):  # the default one last: its folder is that of all
            self._copies[name].finish()
        return items

    def close(self) -> None:
        """Close the files; the copy can be gone on with. To be called once."""
        for copy in self._copies.values():
            copy.close()
        self._lock.release()

    def _mapped(self, copy: GalleryRewrite, row: ItemRow, vector: Floats) -> RewrittenItem:
        width = _width_of_mapped(row.width, self._embedder.manifest.widths)
        return RewrittenItem(row, width, vector, embedded=False, has_image=copy.image(row) is not None)


def _claim(folder: Path, embedder: OfflineEmbedder) -> None:
    """Note in an empty folder what the copy is made with, or check it. Raises OpenRefusedError, OSError."""
    manifest, width = embedder.manifest, embedder.width
    wanted = {
        "space": manifest.space,
        "width": width,
        "graph": manifest.graphs[width],
        "preprocessing": manifest.preprocessing.model_dump(mode="json"),
    }
    state = folder / STATE
    if state.exists():
        if (found := json.loads(state.read_bytes())) != wanted:
            raise OpenRefusedError(
                f"{folder} has a copy that was begun for width {found.get('width')} of a bundle of the space "
                f"{found.get('space')}; go on with that one, or delete the folder to begin anew"
            )
        return
    if folder.exists() and any(path.name != f".{STATE}.tmp" for path in folder.iterdir()):
        raise OpenRefusedError(f"{folder} must be a new or an empty folder, or a copy that this command has begun")
    folder.mkdir(parents=True, exist_ok=True)
    write_file(state, json.dumps(wanted).encode())


def _delete_other_collections(folder: Path, sources: Sources) -> None:
    """Those that the data folder had when an interrupted call began, and has no longer."""
    for path in (folder / COLLECTIONS).glob("*"):
        if path.name not in sources:
            shutil.rmtree(path)


def _image_batches(source: GallerySource, copy: GalleryRewrite) -> Iterator[list[tuple[ItemRow, bytes | None]]]:
    """Items that have an image and are not done, with it, or None where it cannot be read; in bounded batches."""
    batch, size = list[tuple[ItemRow, bytes | None]](), 0
    for rows in _missing(source.rows(), copy.done):
        for row in rows:
            if row.image is None:
                continue
            image = copy.image(row)
            batch.append((row, image))
            size += len(image or b"")
            if len(batch) >= _IMAGES_AT_ONCE or size >= _IMAGE_BYTES_AT_ONCE:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _missing(pages: Iterator[list[ItemRow]], done: Int64) -> Iterator[list[ItemRow]]:
    """The rows that are not done, in pages that are not empty."""
    for rows in pages:
        there = np.isin([row.sequence for row in rows], _between(done, rows[0].sequence, rows[-1].sequence))
        if not there.all():
            yield [row for row, known in zip(rows, there.tolist(), strict=True) if not known]


def _between(numbers: Int64, first: int, last: int) -> Int64:
    """Those of ascending numbers that are in a range."""
    return numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, last, "right")]


def _shares(sources: Sources, count: int, rng: np.random.Generator) -> dict[str, Int64]:
    """Of all items that have an image, at most `count` drawn at random, by collection."""
    numbers = np.concatenate([one.with_image for one in sources.values()])
    owners = np.repeat(np.arange(len(sources)), [len(one.with_image) for one in sources.values()])
    drawn = rng.permutation(len(numbers))[:count]
    return {name: numbers[drawn[owners[drawn] == place]] for place, name in enumerate(sources)}


def _width_of_mapped(width: str, widths: Sequence[str]) -> str:
    """The width of a mapped vector, which is no better for the map: its own, or else the next narrower one."""
    return max((one for one in widths if float(one) <= float(width)), key=float, default=widths[0])


def _reason(image: bytes | None, why: UnusableImage) -> str:
    return "its image is missing or damaged in the data folder" if image is None else str(why)

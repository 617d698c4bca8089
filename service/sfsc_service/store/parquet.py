"""Items as Parquet files: a folder of parts in the order of the ids, and `export.json`, which is written last.

    id, space, width, reason, metadata   utf8; metadata is a JSON object
    created                              timestamp in microseconds, UTC; an import sets it anew
    vector                               fixed_size_list<float32>[D]
    image, media_type                    the stored image and its type; null without one, or where none was wanted

Invariants:
- A part appears under its name when it is whole; an interrupted export goes on after the last whole part.
- An export is finished when `export.json` is there: what it says of each part is compared by an import before any
  item is stored.
- An import may be repeated: items that are there as the parts have them are left alone. Those that it stores are
  read back and compared.

Needs pyarrow, the extra `parquet`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfsc_bundle.atomic_file import replacing, write_file
from sfsc_service.store.errors import OpenRefusedError, StoreFailedError
from sfsc_service.store.protocol import EncodedImage, Item, Store, StoredItem

__all__ = [
    "MANIFEST",
    "ImportedItems",
    "Manifest",
    "export_items",
    "import_items",
    "read_manifest",
]

MANIFEST = "export.json"
_PART_ITEMS = 10_000
_PART_IMAGE_BYTES = 256 * 2**20
_PAGE_ITEMS = 500
_IMPORTED_AT_ONCE = 500

Progress = Callable[[int, int], None]
"""Called with how many items are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `export.json` says. `parts`: sha256 by file name. `spaces`: of the items."""

    items: int
    images: int
    dimension: int
    spaces: list[str]
    parts: dict[str, str]


@dataclass(slots=True)
class ImportedItems:
    """How many items were new, replaced, or there already as they should be."""

    created: int = 0
    replaced: int = 0
    unchanged: int = 0


def export_items(store: Store, folder: Path, *, images: bool, progress: Progress) -> Manifest:
    """Write all items of a store into the parts of `folder`, or go on where an earlier call was interrupted.

    Nothing may be written to the store between an interrupted call and the next one.

    Raises:
        OpenRefusedError: there is a finished export already, or something else.
        StoreError, OSError: an item cannot be read, a part cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = [path.name for path in folder.iterdir() if not path.name.lstrip(".").startswith("part-")]
    if others:
        raise OpenRefusedError(f"to: must be a new folder, or one of an interrupted export; found {others[0]}")
    parts = sorted(folder.glob("part-*.parquet"))
    written, last, with_images = _what_is_there(parts)
    total = store.count()
    for part in _parts_after(store, last, images=images):
        path = folder / f"part-{len(parts):05d}.parquet"
        _write_part(path, part, store.dimension)
        parts.append(path)
        written += len(part)
        with_images += sum(image is not None for _, image in part)
        progress(written, total)
    if written != total:
        raise OpenRefusedError(f"to: {folder} has {written} items and the gallery {total}: begin in a new folder")
    digests = {path.name: _digest(path) for path in parts}
    manifest = Manifest(written, with_images, store.dimension, sorted(store.spaces), digests)
    document = {name: getattr(manifest, name) for name in Manifest.__slots__}
    write_file(folder / MANIFEST, json.dumps(document, indent=1).encode())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What an export has. Raises OpenRefusedError: it is not finished, or none."""
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        return Manifest(**document)
    except FileNotFoundError:
        raise OpenRefusedError(f"from: {folder} is no finished export; found no {MANIFEST} in it") from None
    except (ValueError, TypeError) as error:
        raise OpenRefusedError(f"from: {folder / MANIFEST} is damaged: {error}") from None


def _verify_parts(folder: Path, manifest: Manifest) -> None:
    """Compare every part with its checksum. Raises OpenRefusedError: one is missing or damaged."""
    for name, expected in manifest.parts.items():
        path = folder / name
        if not path.exists() or _digest(path) != expected:
            raise OpenRefusedError(f"from: {path} is missing or not as it was exported; nothing was imported")


def import_items(store: Store, folder: Path, manifest: Manifest, progress: Progress) -> ImportedItems:
    """Upsert all items of an export that are not in the store as they are there.

    Raises:
        OpenRefusedError: a part is missing or damaged, or has not the items that it should; the first before
            anything is stored.
        StoreError: an item is refused.
    """
    _verify_parts(folder, manifest)
    found, done = ImportedItems(), 0
    for name in manifest.parts:
        for items in _read_part(folder / name):
            _import(store, items, found)
            done += len(items)
            progress(done, manifest.items)
    if done != manifest.items:
        raise OpenRefusedError(f"from: {folder} must have {manifest.items} items, found {done}")
    return found


def _import(store: Store, items: list[Item], found: ImportedItems) -> None:
    present = store.get([item.id for item in items])
    wanted = [item for item, old in zip(items, present, strict=True) if old is None or not _same(item, old)]
    found.unchanged += len(items) - len(wanted)
    outcomes = store.upsert(wanted)
    kept = store.get([item.id for item in wanted])
    if different := sum(old is None or not _same(item, old) for item, old in zip(wanted, kept, strict=True)):
        raise StoreFailedError(f"{different} items are not in the store as they were exported; import them again")
    created = sum(outcome == "created" for outcome in outcomes)
    found.created += created
    found.replaced += len(outcomes) - created


def _same(item: Item, old: StoredItem) -> bool:
    digest = None if item.image is None else hashlib.sha256(item.image.data).hexdigest()
    return (
        (item.space, item.width, item.reason, item.metadata, digest)
        == (old.space, old.width, old.reason, old.metadata, old.image_digest)
    ) and np.array_equal(item.vector, old.vector)


_Exported = tuple[StoredItem, EncodedImage | None]


def _parts_after(store: Store, last: str | None, *, images: bool) -> Iterator[list[_Exported]]:
    """The items after the id `last`, in parts of bounded size."""
    part, size, cursor = list[_Exported](), 0, None
    while True:
        page = store.page(cursor, _PAGE_ITEMS)
        for item in page.items:
            if last is not None and item.id <= last:
                continue
            stored = store.image(item.id) if images and item.image_digest else None
            part.append((item, None if stored is None else EncodedImage(stored.data, stored.media_type)))
            size += 0 if stored is None else len(stored.data)
            if len(part) >= _PART_ITEMS or size >= _PART_IMAGE_BYTES:
                yield part
                part, size = [], 0
        if page.cursor is None:
            break
        cursor = page.cursor
    if part:
        yield part


def _what_is_there(parts: list[Path]) -> tuple[int, str | None, int]:
    """How many items an interrupted export has, the last id, and how many images."""
    import pyarrow.parquet as parquet

    items, last, images = 0, None, 0
    for path in parts:
        columns = parquet.read_table(path, columns=["id", "media_type"])
        items += columns.num_rows
        last = columns["id"][-1].as_py()
        images += columns.num_rows - columns["media_type"].null_count
    return items, last, images


def _write_part(path: Path, part: list[_Exported], dimension: int) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    numbers = np.concatenate([item.vector for item, _ in part])
    text, media_types = pyarrow.string(), [None if image is None else image.media_type for _, image in part]
    table = pyarrow.table(
        {
            "id": pyarrow.array([item.id for item, _ in part], text),
            "space": pyarrow.array([item.space for item, _ in part], text),
            "width": pyarrow.array([item.width for item, _ in part], text),
            "reason": pyarrow.array([item.reason for item, _ in part], text),
            "metadata": pyarrow.array([json.dumps(item.metadata, ensure_ascii=False) for item, _ in part], text),
            "created": pyarrow.array([item.created for item, _ in part], pyarrow.timestamp("us", "UTC")),
            "vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numbers), dimension),
            "image": pyarrow.array(
                [None if image is None else image.data for _, image in part], pyarrow.large_binary()
            ),
            "media_type": pyarrow.array(media_types, text),
        }
    )
    with replacing(path) as file:
        parquet.write_table(table, file, row_group_size=_IMPORTED_AT_ONCE)


def _read_part(path: Path) -> Iterator[list[Item]]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_IMPORTED_AT_ONCE):
            yield [_item(row) for row in batch.to_pylist()]


def _item(row: dict[str, Any]) -> Item:
    image = None if row["image"] is None else EncodedImage(row["image"], row["media_type"])
    return Item(
        row["id"],
        row["space"],
        row["width"],
        np.array(row["vector"], np.float32),
        json.loads(row["metadata"]),
        image,
        row["reason"],
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

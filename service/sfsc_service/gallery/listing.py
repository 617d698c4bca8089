"""`gallery.json`: the images of a demo gallery, sample queries beside them, and what each of them shows.

    {"items": [{"file": "a.jpg", "identity": "v7", …}], "queries": [{"file": "queries/b.jpg", …}]}

`file` is relative to the listing and may not lead out of its folder. A query may have `item`, the id of the
item that is the same image. Every other field is metadata.
"""

from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.image_formats import SUFFIXES
from sfsc_service.errors import StartError

__all__ = ["ListedImage", "Listing", "read_listing"]

MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image; in a listing its name is its file's name without the suffix.

    `item` is the id of the item that is the same image, where a query has one.
    """

    name: str
    path: Path
    metadata: dict[str, Any]
    item: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A gallery's images and the images to search it with."""

    items: tuple[ListedImage, ...] = ()
    queries: tuple[ListedImage, ...] = ()


class _ListingEntry(BaseModel):
    model_config = ConfigDict(extra="allow")

    file: str
    item: str | None = None


class _ListingFile(BaseModel):
    items: list[_ListingEntry] = []
    queries: list[_ListingEntry] = []


def read_listing(path: Path) -> Listing:
    """Read a listing. Raises StartError: not there, too large, not of this form, a file outside its folder."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StartError(f"{path}: must have at most {MAX_BYTES} bytes, found {path.stat().st_size}")
        listing = _ListingFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StartError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise StartError(f"{path}: {first_broken_rule(error)}") from error
    return Listing(_images(path, listing.items), _images(path, listing.queries))


def _images(listing: Path, entries: list[_ListingEntry]) -> tuple[ListedImage, ...]:
    found = tuple(_image(listing, entry) for entry in entries)
    name, times = max(Counter(image.name for image in found).items(), key=itemgetter(1), default=("", 0))
    if times > 1:
        raise StartError(f"{listing}: file names must differ, found {name} {times} times")
    return found


def _image(listing: Path, entry: _ListingEntry) -> ListedImage:
    place = PurePosixPath(entry.file)
    if place.is_absolute() or ".." in place.parts or place.suffix.lower() not in SUFFIXES:
        raise StartError(
            f"{listing}: file: must be an image ({' '.join(SUFFIXES)}) below the listing's folder, "
            f"found {entry.file[:100]!r}"
        )
    return ListedImage(place.stem, listing.parent / place, dict(entry.model_extra or {}), entry.item)

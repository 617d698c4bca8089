"""The images of a folder or of a CSV file, with the ids and metadata that they get; and what is left out, and why.

A folder's images are named by their paths relative to it; the folder that an image lies in is its `identity`. A
CSV file has a column `path`, relative to the file, and may have `id`; every other column is metadata, as text.
"""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sfsc_bundle.image_formats import SUFFIXES
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import ListedImage

__all__ = ["ORIGIN", "ImageFiles", "LeftOut", "find_images", "origin_of"]

ORIGIN = "added_from"
"""Metadata of every added item: the name of its folder or file, by which a later run knows its own items."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or row that gives no item, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class ImageFiles:
    """What a folder or a CSV file holds."""

    images: list[ListedImage] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """Folders, relative to the folder, of which nobody knows what they hold."""


def origin_of(source: Path) -> str:
    """What `ORIGIN` says of items from a folder or file."""
    return source.resolve().name


def find_images(source: Path) -> ImageFiles:
    """Look through a folder or a CSV file. Raises StartError where it is neither, or holds no image."""
    if source.is_dir():
        found = _of_folder(source)
    elif source.suffix.lower() == ".csv" and source.is_file():
        found = _of_csv(source)
    else:
        raise StartError(f"images: must be an existing folder or .csv file, found {source}")
    if not found.images:
        why = "".join(f"; {one.name}: {one.reason}" for one in found.left_out[:1])
        raise StartError(f"images: {source} must hold images ({' '.join(SUFFIXES)}), found none{why}")
    return found


def _of_folder(folder: Path) -> ImageFiles:
    found = ImageFiles()

    def note(error: OSError) -> None:
        name = Path(error.filename).relative_to(folder).as_posix()
        found.unreadable.append(name)
        found.left_out.append(LeftOut(_printable(name), f"a folder that cannot be read: {error.strerror}"))

    for path in _files(folder, note):
        place = path.relative_to(folder)
        name = place.as_posix()
        if (reason := _refusal(path, place.parts)) is not None:
            found.left_out.append(LeftOut(_printable(name), reason))
        else:
            identity = {"identity": place.parent.name} if len(place.parts) > 1 else {}
            found.images.append(ListedImage(name, path, identity))
    return found


def _files(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """All files, sorted; links to folders are not followed, because they may lead in circles."""
    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            yield Path(place, name)


def _refusal(path: Path, parts: tuple[str, ...]) -> str | None:
    """Why a file is no image to be added; None where it may be one."""
    if any(part.startswith(".") for part in parts):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return f"not an image by its suffix ({' '.join(SUFFIXES)})"
    if not os.path.isfile(path):  # unlike Path.is_file, false where the path is too long
        return "a link that leads nowhere" if os.path.islink(path) else "no such file"
    if _printable(str(path)) != str(path):
        return "its name is not UTF-8"
    return None


def _of_csv(file: Path) -> ImageFiles:
    found = ImageFiles()
    names: set[str] = set()
    for number, row in enumerate(_rows(file), start=2):
        path = row.pop("path")
        name = row.pop("id", "") or path
        place = file.parent / path
        reason = f"line {number}: no path" if not path else _refusal(place, Path(path).parts[-1:])
        if reason is None and name in names:
            reason = f"line {number}: the id was given before"
        if reason is not None:
            found.left_out.append(LeftOut(name or f"line {number}", reason))
        else:
            names.add(name)
            found.images.append(ListedImage(name, place, {key: value for key, value in row.items() if value}))
    return found


def _rows(file: Path) -> Iterator[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, restkey="", restval="")
            if "path" not in (reader.fieldnames or ()):
                raise StartError(f"{file}: the first line must name a column path, found {reader.fieldnames}")
            for row in reader:
                if row.pop("", None):
                    raise StartError(
                        f"{file}: line {reader.line_num} has more values than the first line has names"
                    )
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StartError(f"{file}: cannot be read as CSV in UTF-8: {error}") from error


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()

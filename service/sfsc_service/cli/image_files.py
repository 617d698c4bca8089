"""The images of a folder or of a CSV file, with the ids and metadata that they get; and what is left out, and why.

A folder's images are named by their paths relative to it; the folder that an image lies in is its `identity`. A
CSV file has a column `path`, relative to the file, and may have `id`; every other column is metadata, as text.
"""

import csv
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfsc_bundle.extras import installing
from sfsc_bundle.image_formats import IMAGE_FORMATS, SUFFIXES, FormatName
from sfsc_bundle.written_by import written_by
from sfsc_service.cli.counted import counted
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import ListedImage

__all__ = ["ORIGIN", "ImageFiles", "LeftOut", "find_images", "origin_of"]

HEIC = next(one.suffixes for one in IMAGE_FORMATS if one.name == "HEIF")
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

    def counts(self, decoded: Collection[FormatName]) -> str:
        """The number of images and, of them, of HEIC; what to install where HEIC cannot be decoded."""
        heic = sum(image.path.suffix.lower() in HEIC for image in self.images)
        text = counted(len(self.images), "image") + (f", {heic} of them HEIC" if heic else "")
        if heic and "HEIF" not in decoded:
            text += f", which are left out: they need pillow-heif: {installing('heif')}"
        return text


def origin_of(source: Path) -> str:
    """What `ORIGIN` says of items from a folder or file."""
    return source.resolve().name


def find_images(source: Path) -> ImageFiles:
    """Look through a folder or a CSV file.

    Raises:
        StartError: it is neither, another command wrote the folder, the file breaks a rule, or there is no image.
    """
    if source.is_dir():
        if (what := written_by(source)) is not None:
            raise StartError(f"images: must be a folder of images, and {source} is {what}")
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

    origin = {ORIGIN: origin_of(folder)}
    for place, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        parents = Path(place).relative_to(folder).parts
        metadata = {"identity": parents[-1]} | origin if parents else origin
        for name in sorted([*names, *linked]):
            path, parts = os.path.join(place, name), (*parents, name)
            if (reason := _refusal(path, parts)) is not None:
                found.left_out.append(LeftOut(_printable("/".join(parts)), reason))
            else:
                found.images.append(ListedImage("/".join(parts), Path(path), metadata))
    return found


def _refusal(path: str, parts: tuple[str, ...]) -> str | None:
    """Why a file is no image to be added; None where it may be one."""
    if any(part.startswith(".") for part in parts):
        return "hidden"
    if os.path.isdir(path):  # links may lead in circles
        return "a folder" if not os.path.islink(path) else "a link to a folder, which is not followed"
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        return f"not an image by its suffix ({' '.join(SUFFIXES)})"
    if not os.path.isfile(path):  # false, too, where the path is too long
        if os.path.islink(path):
            return "a link that leads nowhere"
        return "not a regular file" if os.path.lexists(path) else "no such file"
    if _printable(path) != path:
        return "its name is not UTF-8"
    return None


def _of_csv(file: Path) -> ImageFiles:
    found = ImageFiles()
    names: set[str] = set()
    origin = {ORIGIN: origin_of(file)}
    for number, row in _rows(file):
        path = row.pop("path")
        name = row.pop("id", "") or path
        place = file.parent / path
        reason = f"line {number}: no path" if not path else _refusal(str(place), Path(path).parts[-1:])
        if reason is None and name in names:
            reason = f"line {number}: the id was given before"
        if reason is not None:
            found.left_out.append(LeftOut(name or f"line {number}", reason))
        else:
            names.add(name)
            metadata = {key: value for key, value in row.items() if value}
            found.images.append(ListedImage(name, place, metadata | origin))
    return found


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each line and its values by column."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, restkey="", restval="")
            _check_columns(file, reader.fieldnames or ())
            for row in reader:
                if row.pop("", None):
                    raise StartError(
                        f"{file}: line {reader.line_num} has more values than the first line has names"
                    )
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StartError(f"{file}: cannot be read as CSV in UTF-8: {error}") from error


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if "path" not in names:
        raise StartError(f"{file}: the first line must name a column path, found {', '.join(names) or 'nothing'}")
    if "" in names:
        raise StartError(f"{file}: every column must have a name, found none for column {names.index('') + 1}")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise StartError(f"{file}: columns must have different names, found {name} {times} times")
    if ORIGIN in names:
        raise StartError(f"{file}: a column must not be called {ORIGIN}, which this command sets")


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()

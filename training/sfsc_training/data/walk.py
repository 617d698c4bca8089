"""All files below a folder, sorted into images and what is ignored. Nothing is opened."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sfsc_bundle.image_formats import SUFFIXES
from sfsc_training.data.findings import Finding
from sfsc_training.errors import DataError

__all__ = ["Walked", "is_hidden", "walk"]

_ARCHIVE_LEFTOVERS = "__MACOSX"


@dataclass(frozen=True, slots=True)
class Walked:
    """What lies below a folder, as paths below it.

    `images`: sorted; `folders`: all folders, sorted; `nameless`: names that are not UTF-8, shown with escapes;
    `notes`: what is ignored.
    """

    images: tuple[Path, ...]
    folders: tuple[Path, ...]
    nameless: tuple[str, ...]
    notes: tuple[Finding, ...]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: a leading dot, or what macOS adds to archives."""
    return name.startswith(".") or name == _ARCHIVE_LEFTOVERS


def walk(folder: Path) -> Walked:
    """Sort all files below a folder, links included; a folder that is met again through a link is not entered.

    Raises:
        DataError: a folder cannot be read.
    """
    found = list(_entries(folder, Path(), frozenset()))
    hidden = [path for path, _ in found if is_hidden(path.name)]
    nameless = [path for path, _ in found if not _is_utf8(path)]
    ignored = {*hidden, *nameless}
    files = [path for path, is_folder in found if not is_folder and path not in ignored]
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [path for path in files if path.suffix.lower() not in SUFFIXES]
    root = folder.resolve()
    used = {*images, *(path for path, is_folder in found if is_folder and path not in ignored)}
    foreign = [
        path
        for path in sorted(used)
        if (folder / path).is_symlink() and not (folder / path).resolve().is_relative_to(root)
    ]
    notes = (
        Finding("hidden files and folders, ignored", _names(hidden)),
        Finding(f"files that are no images by their suffix{_by_suffix(others)}, ignored", _names(others)),
        Finding("links to images and folders outside the folder, followed", _names(foreign)),
    )
    return Walked(
        tuple(images),
        tuple(path for path, is_folder in found if is_folder and path not in ignored),
        tuple(os.fsencode(path).decode("utf-8", "backslashreplace") for path in nameless),
        tuple(note for note in notes if note.names),
    )


def _entries(root: Path, below: Path, above: frozenset[Path]) -> Iterator[tuple[Path, bool]]:
    """(path below the root, whether it is a folder), depth first in the order of names."""
    place = root / below
    try:
        resolved = place.resolve(strict=True)
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except (OSError, RuntimeError) as error:
        raise DataError(f"folder {place} cannot be read: {error}") from error
    for entry in entries:
        path = below / entry.name
        is_folder = (root / path).is_dir()
        if is_folder and (root / path).resolve() in {*above, resolved}:
            continue
        yield path, is_folder
        if is_folder and not is_hidden(entry.name) and _is_utf8(path):
            yield from _entries(root, path, above | {resolved})


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(paths: list[Path]) -> tuple[str, ...]:
    return tuple(os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths)


def _by_suffix(paths: list[Path]) -> str:
    counts = Counter(path.suffix.lower() or "none" for path in paths)
    return f" ({', '.join(f'{suffix} {count}' for suffix, count in counts.most_common(4))})" if counts else ""

"""The items that `sfsc check --repair` took out of a gallery, and whose images it kept."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfsc_service.cli.image_files import ImageFiles, LeftOut
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import ListedImage
from sfsc_service.store.embedded.opening import IMAGES
from sfsc_service.store.embedded.repair import row_was_whole

__all__ = ["find_removed"]


def find_removed(file: Path) -> ImageFiles:
    """The items of a `removed-items.ndjson` in the data folder that was repaired, with the images kept there.

    Items whose row or image is damaged, too, are left out, as those are that had no image.

    Raises:
        StartError: the file cannot be read or is no such file, or nothing can be put back.
    """
    found, images = ImageFiles(), dict[str, ListedImage]()
    for row in _rows(file):
        name = row["id"]
        if not row_was_whole(row):
            found.left_out.append(LeftOut(name, "its row is damaged"))
        elif row["image"] is None:
            found.left_out.append(LeftOut(name, "it has no image to embed again"))
        elif (path := _image(file.parent / IMAGES, row["image"])) is None:
            found.left_out.append(LeftOut(name, "its image is missing or damaged"))
        else:  # of an item that was removed twice, the later row is the newer one
            images[name] = ListedImage(name, path, json.loads(row["metadata"]))
    found.images = list(images.values())
    if not found.images:
        why = "".join(f"; {one.name}: {one.reason}" for one in found.left_out[:1])
        raise StartError(f"images: {file} must hold items whose images were kept, found none{why}")
    return found


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8", errors="surrogateescape") as text:
            for number, line in enumerate(text, start=1):
                try:
                    row = json.loads(line)
                    if not isinstance(row["id"], str):
                        raise ValueError
                except (ValueError, KeyError, TypeError):
                    rule = "must be a row as `sfsc check --repair` writes them"
                    raise StartError(f"{file}: line {number} {rule}, found {line[:60]!r}") from None
                yield row
    except OSError as error:
        raise StartError(f"{file}: cannot be read: {error.strerror}") from error


def _image(folder: Path, digest: str) -> Path | None:
    """Where an image is now: set aside, unless another item has it, too."""
    for path in (folder / "quarantine" / digest, folder / digest[:2] / digest[2:4] / digest):
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    return path
        except OSError:
            continue
    return None

"""Samples of one's own images, which the page offers to search with after `sfsc demo --images`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.errors import ImageError
from sfsc_bundle.header import ImageLimits, read_header
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import ListedImage

__all__ = ["SAMPLES", "write_samples"]

SAMPLES = "samples"
"""The folder of them in the data folder."""

COUNT = 12
LIMITS = ImageLimits()


def write_samples(images: Sequence[ListedImage], folder: Path) -> Path:
    """Copy some images, spread over all, into a folder with a listing of them; returns the listing.

    Raises:
        StartError: the folder cannot be written.
    """
    queries = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spread = images[:: max(1, len(images) // COUNT)][:COUNT]
        for number, (image, data) in enumerate(_readable(spread), start=1):
            copy = folder / f"{number:02}{image.path.suffix.lower()}"
            copy.write_bytes(data)
            queries.append({**image.metadata, "file": copy.name, "item": image.name})
        listing = folder / "gallery.json"
        write_file(listing, json.dumps({"queries": queries}).encode())
    except OSError as error:
        raise StartError(f"samples cannot be written to {folder}: {error.strerror}") from error
    return listing


def _readable(images: Sequence[ListedImage]) -> Iterator[tuple[ListedImage, bytes]]:
    for image in images:
        try:
            if image.path.stat().st_size > LIMITS.max_bytes:
                continue
            data = image.path.read_bytes()
            read_header(data, LIMITS)
        except (OSError, ImageError):
            continue
        yield image, data

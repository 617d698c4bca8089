"""Load images into a running service: the gallery that a bundle brings, or the images of a folder."""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from sfsc_bundle.progress import bar
from sfsc_service.cli.image_files import find_images
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import ListedImage, read_listing

__all__ = ["demo_images", "folder_images", "load"]

START_TIMEOUT_S = 120.0
SHOWN_FAILURES = 5


def demo_images(bundle: Path) -> Sequence[ListedImage]:
    """The images that `gallery/gallery.json` of a bundle lists. Raises StartError."""
    return read_listing(bundle / "gallery" / "gallery.json").items


def folder_images(folder: Path) -> Sequence[ListedImage]:
    """Every image under a folder, named by its path relative to it. Raises StartError."""
    return [
        ListedImage(
            image.name,
            image.path,
            {"file": image.path.name, "folder": PurePosixPath(image.name).parent.as_posix()},
        )
        for image in find_images(folder).images
    ]


def load(url: str, images: Sequence[ListedImage], console: Console, seed: int = 0) -> int:
    """Load the images that the gallery lacks, each at a width drawn at random; returns how many were stored.

    An image's name becomes the id of its item.

    Raises:
        ServiceError: the service cannot be reached or fails.
        StartError: the service does not become ready.
    """
    with Client(url) as client:
        _wait(client)
        there = {item["id"] for item in client.items(limit=1000)}
        missing = [image for image in images if image.name not in there]
        widths = [width["width"] for width in client.widths()["widths"]]
        draw = random.Random(seed)
        failures = []
        with bar(console, "gallery", len(missing)) as progress:
            for result in client.put_many(_items(missing, widths, draw)):
                progress.advance()
                if result["status"] != 200:
                    failures.append(result)
    for failed in failures[:SHOWN_FAILURES]:
        console.print(f"left out {failed['id']}: {failed['detail']}", markup=False, highlight=False)
    if len(failures) > SHOWN_FAILURES:
        console.print(f"left out {len(failures) - SHOWN_FAILURES} more")
    return len(missing) - len(failures)


def _items(images: Sequence[ListedImage], widths: list[str], draw: random.Random) -> Iterator[dict[str, Any]]:
    for image in images:
        yield {
            "id": image.name,
            "image": image.path.read_bytes(),
            "metadata": image.metadata,
            "width": draw.choice(widths),
        }


def _wait(client: Client) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not client.ready():
        if time.monotonic() > end:
            raise StartError(f"the service did not become ready within {START_TIMEOUT_S:g} s")
        time.sleep(0.2)

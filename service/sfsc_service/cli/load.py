"""Load images into a running service: the gallery that a bundle brings, or the images of a folder."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sfsc_bundle.progress import bar
from sfsc_service.cli.image_files import ORIGIN, find_images, origin_of
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import ListedImage, read_listing

__all__ = ["demo_images", "load", "own_images", "packaged_demo"]

START_TIMEOUT_S = 120.0
SHOWN_FAILURES = 5


def packaged_demo() -> Path:
    """The demo bundle that comes with the package: inside of it, or in the checkout that it is installed from."""
    package = Path(__file__).parents[1]
    inside = package / "demo"
    return inside if inside.is_dir() else package.parents[1] / "models" / "demo"


def demo_images(bundle: Path) -> Sequence[ListedImage]:
    """The images that `gallery/gallery.json` of a bundle lists; none where it has none. Raises StartError."""
    listing = bundle / "gallery" / "gallery.json"
    return read_listing(listing).items if listing.exists() else ()


def own_images(source: Path) -> Sequence[ListedImage]:
    """Every image of a folder or CSV file, with the id and metadata of `sfsc add`. Raises StartError."""
    return [
        replace(image, metadata=image.metadata | {ORIGIN: origin_of(source)})
        for image in find_images(source).images
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
        failures: list[tuple[str, str]] = []
        with bar(console, "gallery", len(missing)) as progress:
            for result in client.put_many(_items(missing, widths, draw, failures)):
                progress.advance()
                if result["status"] != 200:
                    failures.append((str(result["id"]), result["detail"]))
    for name, why in failures[:SHOWN_FAILURES]:
        console.print(f"left out {name}: {why}", markup=False, highlight=False)
    if len(failures) > SHOWN_FAILURES:
        console.print(f"left out {len(failures) - SHOWN_FAILURES} more")
    return len(missing) - len(failures)


def _items(
    images: Sequence[ListedImage], widths: list[str], draw: random.Random, failures: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    for image in images:
        try:
            data = image.path.read_bytes()
        except OSError as error:
            failures.append((image.name, f"the file cannot be read: {error.strerror}"))
            continue
        yield {"id": image.name, "image": data, "metadata": image.metadata, "width": draw.choice(widths)}


def _wait(client: Client) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not client.ready():
        if time.monotonic() > end:
            raise StartError(f"the service did not become ready within {START_TIMEOUT_S:g} s")
        time.sleep(0.2)

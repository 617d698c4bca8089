"""Load images into a service that is starting: the gallery that a bundle brings, or one's own images."""

import random
import time
from pathlib import Path
from typing import TypedDict, Unpack

import httpx
from rich.console import Console

from sfsc_service.cli.image_files import ImageFiles
from sfsc_service.cli.upload import UploadReport, upload
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.gallery.listing import read_listing

__all__ = ["Access", "demo_images", "load"]

START_TIMEOUT_S = 120.0


class Access(TypedDict, total=False):
    """How a client gets in: arguments of `Client`."""

    api_key: str
    transport: httpx.BaseTransport | None


def demo_images(bundle: Path) -> ImageFiles:
    """The images that `gallery/gallery.json` of a bundle lists; none where it has none. Raises StartError."""
    listing = bundle / "gallery" / "gallery.json"
    return ImageFiles(list(read_listing(listing).items) if listing.exists() else [])


def load(url: str, found: ImageFiles, console: Console, seed: int = 0, **access: Unpack[Access]) -> None:
    """Load what the gallery lacks or holds otherwise, each image at a width drawn at random; print what was done.

    Raises:
        ServiceError: the service cannot be reached or fails.
        StartError: the service does not become ready.
    """
    report = UploadReport(left_out=found.left_out)
    with Client(url, **access) as client:
        _wait(client)
        if not found.images:
            return
        widths = [width["width"] for width in client.widths()["widths"]]
        draw = random.Random(seed)
        there = {item["id"]: item for item in client.items(limit=1000)}
        upload(client, found.images, there, report, lambda: draw.choice(widths))
    report.print(console)
    if report.failure is not None:
        raise report.failure


def _wait(client: Client) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not client.ready():
        if time.monotonic() > end:
            raise StartError(f"the service did not become ready within {START_TIMEOUT_S:g} s")
        time.sleep(0.2)

"""`sfsc demo`: the service with a gallery loaded into it."""

import hashlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sfsc_bundle.errors import SfscError
from sfsc_service.cli.load import demo_images, folder_images, load
from sfsc_service.cli.serve import start
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.gallery.listing import ListedImage
from sfsc_service.http.server import address, serve
from sfsc_service.settings import LogLevel, Settings, setting

__all__ = ["Demo"]

DATA = Path("data")


class Demo(Settings):
    """Serve the demo bundle with its gallery loaded, or with your own images.

    example: sfsc demo
    example: sfsc demo --images ~/Pictures
    """

    images: Path | None = setting(None, "folder", "load the images of this folder; unset: the bundle's gallery")
    data: Path = setting(
        DATA / "demo", "folder", "where the store keeps the gallery; with --images, a folder of its own in data/"
    )
    log_level: LogLevel = setting(
        "warning", "level", "the least severe messages to log: debug, info, warning, error"
    )

    def run(self) -> None:
        """Serve until SIGTERM, loading what the gallery lacks meanwhile. Raises as `Serve.run`."""
        images = demo_images(self.bundle) if self.images is None else folder_images(self.images)
        settings = self.model_copy(update={"data": self._data()})
        bound, service = start(settings)
        threading.Thread(target=_load, args=(address(bound), images), daemon=True).start()
        serve(settings, service, bound)

    def _data(self) -> Path:
        if self.images is None or "data" in self.model_fields_set:
            return self.data
        return DATA / f"images-{hashlib.sha256(str(self.images.resolve()).encode()).hexdigest()[:12]}"


def _load(url: str, images: Sequence[ListedImage]) -> None:
    try:
        load(url, images, Console())
    except (SfscError, StartError, ServiceError) as error:
        print(f"sfsc: the gallery could not be loaded: {error}", file=sys.stderr, flush=True)
    print(f"open {url}", flush=True)

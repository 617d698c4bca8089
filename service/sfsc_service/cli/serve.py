"""`sfsc serve`: the whole service."""

import logging
import os
import socket
from pathlib import Path

from pydantic_settings import CliPositionalArg

from sfsc_bundle.folder import MANIFEST
from sfsc_bundle.image_formats import SUFFIXES
from sfsc_service.cli.bundle import check_bundle
from sfsc_service.cli.logs import log_to_stderr
from sfsc_service.cli.samples import SAMPLES
from sfsc_service.cli.variables import unknown_variables
from sfsc_service.engine.malloc import limit_arenas, return_large_blocks
from sfsc_service.errors import StartError
from sfsc_service.http.exposure import check_certificate
from sfsc_service.http.keys import read_keys
from sfsc_service.http.server import address, bind, ignore_hangups, serve
from sfsc_service.http.traced import check_extra
from sfsc_service.lifecycle.service import Service, open_service
from sfsc_service.settings import Settings, setting
from sfsc_service.store.errors import StoreFailedError

__all__ = ["Serve", "check_data_folder", "start"]


log = logging.getLogger(__name__)


class Serve(Settings):
    """Serve a bundle over HTTP.

    example: sfsc serve models/mine --data data/mine --port 8000
    """

    bundle: CliPositionalArg[Path] = setting(
        Path("models/demo"), "folder", "the bundle to serve; also SFSC_BUNDLE"
    )

    def run(self) -> None:
        """Serve until SIGTERM. Raises StartError, BundleError, DeviceError or StoreError where it cannot start."""
        check_bundle(self)
        bound, service = start(self)
        print(f"serving {service.manifest.name} at {address(bound, self.scheme)}", flush=True)
        serve(self, service, bound)


def check_data_folder(folder: Path) -> None:
    """Raises StartError where the store would be a file, or lie among files that are not its own."""
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not place.is_dir():
        raise StartError(f"data: must be a folder, and {place} is a file")
    if not os.access(place, os.W_OK):
        raise StartError(f"data: must be a folder that this user can write to, and {place} is none")
    own = "data: must be a folder of the store's own"
    if (folder / MANIFEST).is_file():
        raise StartError(f"{own}, and {folder} is a bundle")
    if (folder / "recipe.json").is_file():
        raise StartError(f"{own}, and {folder} is a run folder of sfsc-train")
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES and path.parent.name != SAMPLES:
            raise StartError(f"{own}, and {folder} holds images ({path.relative_to(folder)})")


def start(settings: Settings) -> tuple[socket.socket, Service]:
    """Take the port and open the service. Raises as `Serve.run`."""
    check_data_folder(settings.data)
    log_to_stderr(settings.log_level, settings.log_format)
    if settings.otlp_url is not None:
        check_extra()
    if settings.keys is not None:
        read_keys(settings.keys)
    check_certificate(settings)
    ignore_hangups()
    return_large_blocks()
    limit_arenas()
    for line in unknown_variables(os.environ):
        log.warning(line)
    bound = bind(settings)
    try:
        return bound, open_service(settings)
    except StoreFailedError as error:
        if not isinstance(cause := error.__cause__, OSError):
            raise
        found = f"{cause.strerror} ({cause.filename or settings.data})"
        raise StartError(
            f"data: the folder {settings.data} cannot be used: {found}; see that this user can write to "
            "it, or name another one"
        ) from error

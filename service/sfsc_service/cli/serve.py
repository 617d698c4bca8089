"""`sfsc serve`: the whole service."""

import socket
from pathlib import Path

from pydantic_settings import CliPositionalArg

from sfsc_service.cli.logs import log_to_stderr
from sfsc_service.engine.malloc import return_large_blocks
from sfsc_service.http.server import address, bind, ignore_hangups, serve
from sfsc_service.http.traced import check_extra
from sfsc_service.lifecycle.service import Service, open_service
from sfsc_service.settings import Settings, setting

__all__ = ["Serve", "start"]


class Serve(Settings):
    """Serve a bundle over HTTP.

    example: sfsc serve models/demo --data data --port 8000
    """

    bundle: CliPositionalArg[Path] = setting(
        Path("models/demo"), "folder", "the bundle to serve; also SFSC_BUNDLE"
    )

    def run(self) -> None:
        """Serve until SIGTERM. Raises StartError, BundleError, DeviceError or StoreError where it cannot start."""
        bound, service = start(self)
        print(f"serving {service.manifest.name} at {address(bound)}", flush=True)
        serve(self, service, bound)


def start(settings: Settings) -> tuple[socket.socket, Service]:
    """Take the port and open the service. Raises as `Serve.run`."""
    log_to_stderr(settings.log_level)
    if settings.otlp_url is not None:
        check_extra()
    ignore_hangups()
    return_large_blocks()
    bound = bind(settings)
    return bound, open_service(settings)

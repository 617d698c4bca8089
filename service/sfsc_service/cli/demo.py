"""`sfsc demo`: the service with a gallery loaded into it."""

import hashlib
import ipaddress
import socket
import ssl
import sys
import threading
from pathlib import Path

import httpx
from pydantic_settings import BaseSettings
from rich.console import Console

from sfsc_bundle.errors import SfscError
from sfsc_bundle.image_formats import available_formats
from sfsc_service.cli.bundle import GENERAL, general_bundle, packaged_demo
from sfsc_service.cli.image_files import ImageFiles, find_images
from sfsc_service.cli.load import Access, demo_images, load
from sfsc_service.cli.samples import SAMPLES, write_samples
from sfsc_service.cli.serve import check_data_folder, start
from sfsc_service.cli.shown import escaped
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.http.keys import make_key
from sfsc_service.http.server import address, serve
from sfsc_service.settings import LogLevel, Settings, setting

__all__ = ["Demo"]

DATA = Path("data")


class _Images(BaseSettings):
    """What most people give, so that the help has it first."""

    model_config = Settings.model_config

    images: Path | None = setting(
        None,
        "folder or CSV",
        "load these images, a folder or a CSV file, as `sfsc add` does; unset: the bundle's gallery",
    )


class Demo(Settings, _Images):
    """Serve the demo bundle with its gallery loaded, or your own images.

    Your own images are served by models/general, a bundle for photographs of any kind. Where it is missing,
    it is made first, which needs the extras `training` and `weights`.

    example: sfsc demo
    example: sfsc demo --images ~/Pictures
    """

    bundle: Path = setting(
        Path("models/demo"),
        "folder",
        "the bundle to serve; the default comes with the package and is found from every folder; with images of "
        "your own it is models/general",
    )
    data: Path = setting(
        DATA / "demo",
        "folder",
        "where the store keeps the gallery; with a bundle or images of your own, a folder of its own in data/",
    )
    log_level: LogLevel = setting(
        "warning", "level", "the least severe messages to log: debug, info, warning, error"
    )

    def run(self) -> None:
        """Serve until SIGTERM, loading what the gallery lacks meanwhile. Raises as `Serve.run`."""
        own = None if self.images is None else find_images(self.images)
        if own is not None:
            print(f"{self.images}: {own.counts(available_formats())}", flush=True)
        check_data_folder(self.data_folder)
        bundle = self._bundle()
        found = demo_images(bundle) if own is None else own
        settings = self.model_copy(update={"bundle": bundle, "data": self.data_folder})
        if own is not None and self.samples is None:
            samples = write_samples(own.images, self.data_folder / SAMPLES)
            settings = settings.model_copy(update={"samples": samples})
        bound, service = start(settings)
        if not found.images:
            print(f"{bundle} brings no gallery, so it starts empty; --images FOLDER loads one", flush=True)
        print(f"the gallery is kept in {self.data_folder} for the next start; delete it to begin anew", flush=True)
        key, entry = make_key(["read", "write"])
        url = address(bound, self.scheme)
        access: Access = {"api_key": key, "transport": _transport(self.tls_cert)}
        threading.Thread(target=_load, args=(url, found, access), daemon=True).start()
        serve(settings, service, bound, {"sfsc-demo": entry}, with_demo_load=_is_loopback(bound))

    def _bundle(self) -> Path:
        if self._has_own("bundle"):
            return self.bundle
        return packaged_demo() if self.images is None else general_bundle()

    @property
    def data_folder(self) -> Path:
        """`data` if it was given, else a folder for this bundle and these images, so that no galleries mix."""
        own = [f"bundle {self.bundle.resolve()}"] if self._has_own("bundle") else []
        if self.images is not None:
            own = [*(own or [f"bundle {GENERAL.resolve()}"]), str(self.images.resolve())]
        if not own or self._has_own("data"):
            return self.data
        return DATA / f"images-{hashlib.sha256(' '.join(own).encode()).hexdigest()[:12]}"

    def _has_own(self, name: str) -> bool:
        return name in self.model_fields_set


def _is_loopback(bound: socket.socket) -> bool:
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def _load(url: str, found: ImageFiles, access: Access) -> None:
    try:
        load(url, found, Console(), **access)
    except (SfscError, StartError, ServiceError) as error:
        print(escaped(f"sfsc: the gallery could not be loaded: {error}"), file=sys.stderr, flush=True)
    print(f"open {url}", flush=True)


def _transport(certificate: Path | None) -> httpx.HTTPTransport | None:
    """How this process calls itself: by an address that its certificate does not name, and trusting that alone."""
    if certificate is None:
        return None
    trust = ssl.create_default_context(cafile=str(certificate))
    trust.check_hostname = False
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return httpx.HTTPTransport(verify=trust)

"""The opened parts of a running service, and the order in which they are opened and closed."""

import logging
from dataclasses import dataclass

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.manifest import Manifest
from sfsc_service.embedder import Embedder
from sfsc_service.errors import Problem, StartError
from sfsc_service.gallery import Gallery
from sfsc_service.health import Health
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.embedded import EmbeddedStore
from sfsc_service.store.protocol import Store

__all__ = ["Service", "open_service"]

CLOSE_S = 1.0
"""How long closing waits for batches; requests that still had a right to an answer have got it by then."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that routes need."""

    settings: Settings
    metrics: Metrics
    embedder: Embedder
    gallery: Gallery
    health: Health

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.embedder.manifest

    def close(self) -> None:
        """Work off what was admitted, then release everything; the store last, because work ends there."""
        self.health.draining = True
        self.embedder.close(CLOSE_S)
        self.gallery.close()


def open_service(settings: Settings, metrics: Metrics | None = None) -> Service:
    """Open bundle, networks and store. Blocks for as long as reading and measuring take.

    Raises:
        BundleError, DeviceError, StoreError: as their packages say.
        StartError: the settings do not fit the bundle.
    """
    bundle = open_bundle(settings.bundle)
    metrics = metrics or Metrics()
    metrics.announce(bundle.manifest.widths)
    try:
        embedder = Embedder(bundle, settings, metrics)
    except Problem as problem:
        raise StartError(problem.detail) from problem
    try:
        store = _open_store(settings, bundle.manifest)
    except BaseException:
        embedder.close(1.0)
        raise
    log.info(
        "bundle %s, space %s, widths %s, %d items in the gallery",
        bundle.manifest.name,
        bundle.manifest.space,
        " ".join(bundle.manifest.widths),
        store.count(),
    )
    gallery = Gallery(store, embedder, settings, metrics)
    return Service(settings, metrics, embedder, gallery, Health(embedder, store, metrics))


def _open_store(settings: Settings, manifest: Manifest) -> Store:
    if settings.store != "embedded":
        raise StartError(f"store: must be embedded, found {settings.store!r}; milvus:// is not supported yet")
    return EmbeddedStore(
        settings.data,
        manifest.space,
        manifest.dimension,
        manifest.compatible_with,
        device=settings.device,
        threads=settings.thread_count,
    )

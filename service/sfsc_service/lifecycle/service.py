"""The opened parts of a running service, and the order in which they are opened and closed."""

import logging
from dataclasses import dataclass

import numpy as np

from sfsc_bundle.manifest import Manifest
from sfsc_service.engine.embedder import Embedder
from sfsc_service.engine.networks import check_device, open_networks
from sfsc_service.engine.threads import search_threads, split_threads
from sfsc_service.errors import Problem, StartError
from sfsc_service.gallery.gallery import Gallery
from sfsc_service.lifecycle.health import Health
from sfsc_service.lifecycle.swap import Swap
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.embedded.store import EmbeddedStore
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
    swap: Swap

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.embedder.manifest

    def close(self) -> None:
        """Work off what was admitted, then release everything; the store last, because work ends there."""
        self.health.draining = True
        self.swap.close()
        self.embedder.close(CLOSE_S)
        self.gallery.close()


def open_service(settings: Settings, metrics: Metrics | None = None) -> Service:
    """Open bundle, networks and store. Blocks for as long as reading and measuring take.

    Raises:
        BundleError, DeviceError, StoreError: as their packages say.
        StartError: the settings do not fit the bundle.
    """
    check_device(settings.device)
    workers, inside = split_threads(settings.thread_count, settings.device)
    try:
        networks = open_networks(settings.bundle, settings.floor_width, settings.device, inside, settings.data)
    except Problem as problem:
        raise StartError(problem.detail) from problem
    metrics = metrics or Metrics()
    manifest = networks.manifest
    metrics.announce(manifest)
    embedder = Embedder(networks, workers, settings, metrics)
    try:
        store = _open_store(settings, manifest)
    except BaseException:
        embedder.close(1.0)
        raise
    log.info(
        "bundle %s, space %s, widths %s, %d items in the gallery",
        manifest.name,
        manifest.space,
        " ".join(manifest.widths),
        store.count(),
    )
    gallery = Gallery(store, embedder, settings, metrics)
    health, swap = Health(embedder, store, metrics), Swap(settings, embedder, store, metrics)
    return Service(settings, metrics, embedder, gallery, health, swap)


def _open_store(settings: Settings, manifest: Manifest) -> Store:
    if settings.store != "embedded":
        raise StartError(f"store: must be embedded, found {settings.store!r}; milvus:// is not supported yet")
    store = EmbeddedStore(
        settings.data,
        manifest.space,
        manifest.dimension,
        manifest.compatible_with,
        device=settings.device,
        threads=search_threads(settings.thread_count)[1],
    )
    try:
        # The first search pays for what only the first one needs; no visitor should.
        store.search(np.eye(1, manifest.dimension, dtype=np.float32), 1)
    except BaseException:
        store.close()
        raise
    return store

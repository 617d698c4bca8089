"""The parts of a running service, and the order in which they are opened and closed."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import assert_never

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
"""Seconds that closing waits for batches; by then, requests that were to be answered have been."""

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
        """That of the bundle being served."""
        return self.embedder.manifest

    def close(self) -> None:
        """Finish what was admitted, then release everything; the store last, because all work ends there."""
        self.health.draining = True
        self.swap.close()
        self.embedder.close(CLOSE_S)
        self.gallery.close()


def open_service(settings: Settings, metrics: Metrics | None = None) -> Service:
    """Open networks, store, embedder and gallery, in this order. Blocks while files are read and costs measured.

    Raises:
        BundleError, DeviceError, StoreError: as their packages say.
        StartError: the settings do not fit the bundle.
    """
    check_device(settings.device)
    metrics = metrics or Metrics()
    workers, threads_per_run = split_threads(settings.thread_count, settings.device)
    try:
        networks = open_networks(
            settings.bundle, settings.floor_width, settings.device, threads_per_run, settings.data
        )
    except Problem as problem:
        raise StartError(problem.detail) from problem
    metrics.announce(networks.manifest)
    with ExitStack() as close_on_error:
        store = _open_store(settings, networks.manifest)
        close_on_error.callback(store.close)
        # The first search pays for what only the first one needs; no request should.
        store.search(np.eye(1, store.dimension, dtype=np.float32), 1)
        embedder = Embedder(networks, workers, settings, metrics)
        close_on_error.callback(embedder.close, CLOSE_S)
        gallery = Gallery(store, embedder, settings, metrics)
        health, swap = Health(embedder, store, metrics), Swap(settings, embedder, store, metrics)
        _log_opened(networks.manifest, store)
        close_on_error.pop_all()
    return Service(settings, metrics, embedder, gallery, health, swap)


def _open_store(settings: Settings, manifest: Manifest) -> Store:
    match settings.store:
        case "embedded":
            return EmbeddedStore(
                settings.data,
                manifest.space,
                manifest.dimension,
                manifest.compatible_with,
                device=settings.device,
                threads=search_threads(settings.thread_count)[1],
            )
        case _:
            assert_never(settings.store)


def _log_opened(manifest: Manifest, store: Store) -> None:
    log.info(
        "opened bundle %s, space %s, widths %s; the gallery has %d items",
        manifest.name,
        manifest.space,
        " ".join(manifest.widths),
        store.count(),
    )

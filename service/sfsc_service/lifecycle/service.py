"""The parts of a running service, and the order in which they are opened and closed."""

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from sfsc_bundle.image_formats import FORMATS
from sfsc_bundle.manifest import Manifest
from sfsc_service.engine.embedder import Embedder
from sfsc_service.engine.memory_budget import MemoryBudget, filter_memory, memory_budget
from sfsc_service.engine.networks import check_device, open_networks
from sfsc_service.engine.threads import split_threads
from sfsc_service.errors import Problem, StartError
from sfsc_service.gallery.align import Aligner
from sfsc_service.gallery.collections import Collections
from sfsc_service.gallery.gallery import Gallery
from sfsc_service.gallery.heal import Healer, check_heal_target
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.gallery.quality import QualityMeter
from sfsc_service.lifecycle.canary import check_networks
from sfsc_service.lifecycle.health import Health
from sfsc_service.lifecycle.maintenance import Maintenance, check_backup_folder
from sfsc_service.lifecycle.milvus_gallery import open_milvus
from sfsc_service.lifecycle.one_store import OneStore
from sfsc_service.lifecycle.swap import Swap
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.collections import DEFAULT, Stores
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import EmbeddedStores
from sfsc_service.store.open_stores import OpenStores

__all__ = ["Service", "open_service"]

MIB = 2**20
CLOSE_S = 1.0
"""Seconds that closing waits for batches; by then, requests that were to be answered have been."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that routes need. `settings` are those in force: `memory` may have lowered them."""

    settings: Settings
    memory: MemoryBudget
    metrics: Metrics
    embedder: Embedder
    stores: OpenStores
    collections: Collections
    health: Health
    swap: Swap
    idle_work: IdleWork
    healer: Healer
    quality: QualityMeter
    aligner: Aligner
    maintenance: Maintenance

    @property
    def manifest(self) -> Manifest:
        """That of the bundle being served."""
        return self.embedder.manifest

    @property
    def gallery(self) -> Gallery:
        """That of the collection `default`."""
        return self.collections.default

    async def run(self) -> None:
        """Do what the service does by itself, for ever."""
        await asyncio.gather(self.health.watch(), self.healer.run(), self.quality.run(), self.aligner.run())

    def close(self) -> None:
        """Finish what was admitted, then release everything; the stores last, because all work ends there.

        A compaction ends with them; a check or a backup only reads what they have written.
        """
        self.health.close()
        self.swap.close()
        self.maintenance.begin_close()
        self.idle_work.close()
        self.embedder.close(CLOSE_S)
        self.collections.close()
        self.maintenance.close()


def open_service(settings: Settings, metrics: Metrics | None = None) -> Service:
    """Open networks, stores, embedder, galleries, in this order. Blocks while files are read and costs measured.

    Raises:
        BundleError, DeviceError, StoreError: as their packages say.
        StartError: the settings do not fit the bundle, or a network cannot embed the canary image.
    """
    check_device(settings.device)
    check_backup_folder(settings)
    metrics = metrics or Metrics()
    workers, threads_per_run = split_threads(settings.thread_count, settings.device)
    try:
        networks = open_networks(
            settings.bundle,
            settings.floor_width,
            settings.device,
            threads_per_run,
            settings.data,
            settings.acceleration,
        )
        check_networks(networks)
        check_heal_target(settings.heal, networks.manifest)
    except Problem as problem:
        raise StartError(problem.detail) from problem
    if networks.alignment is not None and settings.store != "embedded":
        rule = "must not hold an alignment where the store is Milvus: serve it embedded and call sfsc align --undo"
        raise StartError(f"data: {settings.data} {rule}")
    metrics.announce(networks.manifest)
    with ExitStack() as close_on_error:
        manifest = networks.manifest
        stores = OpenStores(
            _stores(settings, metrics), manifest.space, manifest.dimension, manifest.compatible_with
        )
        close_on_error.callback(stores.close)
        # The first search pays for what only the first one needs; no request should.
        stores.default.search_approximately(np.eye(1, manifest.dimension, dtype=np.float32), 1)
        memory = memory_budget(settings.memory_bytes)
        settings = _within(memory, settings)
        embedder = Embedder(networks, workers, settings, metrics, memory.decoding)
        close_on_error.callback(embedder.close, CLOSE_S)
        collections = Collections(stores, embedder, settings, metrics)
        idle_work = IdleWork(embedder, settings.nice)
        healer = Healer(stores, embedder, idle_work, settings.heal, metrics)
        quality = QualityMeter(stores.default, embedder, idle_work, settings, metrics)
        swap = Swap(settings, embedder, stores, metrics)
        aligner = Aligner(stores, embedder, idle_work, settings, metrics, swap.run)
        own_tasks = (healer, quality, aligner, Maintenance(stores, embedder, settings))
        health = Health(embedder, stores, metrics, lambda: [note for task in own_tasks for note in task.notes()])
        _log_opened(manifest, stores)
        _log_limits(memory, settings)
        close_on_error.pop_all()
    return Service(settings, memory, metrics, embedder, stores, collections, health, swap, idle_work, *own_tasks)


def _within(memory: MemoryBudget, settings: Settings) -> Settings:
    """Settings in which no single body takes more than all of them may, unless the operator chose so."""
    if settings.max_body_bytes <= memory.bodies:
        return settings
    if "max_body_bytes" not in settings.model_fields_set:
        return settings.model_copy(update={"max_body_bytes": memory.bodies})
    raise StartError(
        f"SFSC_MAX_BODY_BYTES: must be at most {memory.bodies}, which {memory.source} leaves for bodies, "
        f"found {settings.max_body_bytes}"
    )


def _stores(settings: Settings, metrics: Metrics) -> Stores:
    if settings.store != "embedded":
        return _milvus_stores(settings)
    if settings.search == "hnsw":
        raise StartError("search: hnsw needs a gallery in Milvus; found store = embedded")
    open_store = partial(
        EmbeddedStore,
        device=settings.device,
        observe=lambda work, seconds: metrics.store_seconds.labels(work).observe(seconds),
        threads=settings.thread_count,
        quantisation=None if settings.search == "exact" else settings.search,
        filter_memory_bytes=settings.filter_memory_bytes or filter_memory(settings.memory_bytes),
        nice=settings.nice,
    )
    return EmbeddedStores(settings.data, open_store)


def _milvus_stores(settings: Settings) -> Stores:
    if settings.search == "int8":
        raise StartError("search: must be exact, ivf or hnsw where the store is Milvus, found int8")
    images = settings.image_folder or str(settings.data / "images")
    try:
        settings.data.mkdir(parents=True, exist_ok=True)  # for costs and alignment
    except OSError as error:
        raise StartError(f"data: {settings.data} cannot be made: {error.strerror}") from error
    return OneStore(partial(open_milvus, settings.store, images, settings.search))


def _log_opened(manifest: Manifest, stores: OpenStores) -> None:
    log.info(
        "opened bundle %s, space %s, widths %s; the gallery has %d items",
        manifest.name,
        manifest.space,
        " ".join(manifest.widths),
        stores.default.count(),
    )
    for name, store in stores.by_name.items():
        if name != DEFAULT:
            log.info("the collection %s has %d items", name, store.count())


def _log_limits(memory: MemoryBudget, settings: Settings) -> None:
    log.info(
        "%s allows %d MiB of memory, of which %d are taken; images being decoded may take %d and request bodies "
        "%d MiB; accepted formats are %s",
        memory.source,
        memory.limit // MIB,
        memory.taken // MIB,
        memory.decoding // MIB,
        memory.bodies // MIB,
        " ".join(name for name in FORMATS if name in settings.formats),
    )

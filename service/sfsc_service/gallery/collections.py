"""The collections of a process: galleries of one bundle, each with a store of its own, under a name.

A collection is made by a call of its own and never by a first write: a name with a typing error would otherwise
take images for ever, and a search in it find nothing. Threads, queues and networks are shared.
"""

import asyncio
import logging
from dataclasses import dataclass

from sfsc_service.engine.embedder import Embedder
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import Gallery
from sfsc_service.gallery.stages import GalleryStages
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.collections import DEFAULT
from sfsc_service.store.open_stores import OpenStores
from sfsc_service.store.protocol import ApproximateStatus, Store

__all__ = ["CollectionStatus", "Collections"]

MAX_SHOWN = 5
"""Collections that an error names."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection, and the number of its items per width."""

    name: str
    widths: dict[str, int]
    approximate: ApproximateStatus | None


class Collections:
    """The galleries of all open stores. Methods are to be called in the event loop."""

    def __init__(self, stores: OpenStores, embedder: Embedder, settings: Settings, metrics: Metrics) -> None:
        self._stores, self._embedder, self._settings, self._metrics = stores, embedder, settings, metrics
        self._stages = GalleryStages(settings, metrics, embedder.bulk_limit_s)
        self._turn = asyncio.Lock()
        self._galleries = {name: self._gallery(store) for name, store in stores.by_name.items()}

    @property
    def default(self) -> Gallery:
        """The gallery that is meant where no collection is named."""
        return self._galleries[DEFAULT]

    def gallery(self, name: str) -> Gallery:
        """The gallery of a collection. Never waits. Raises Problem: collection_not_found."""
        try:
            return self._galleries[name]
        except KeyError:
            shown = self.names()[:MAX_SHOWN]
            more = ", …" if len(self._galleries) > MAX_SHOWN else ""
            rule = f"must be one that the service has ({', '.join(shown)}{more}), found {name[:100]!r}"
            raise Problem("collection_not_found", f"collection: {rule}", "collection") from None

    def status(self, name: str) -> CollectionStatus:
        """What a collection holds. Never waits. Raises Problem: collection_not_found."""
        gallery = self.gallery(name)
        return CollectionStatus(name, gallery.composition(), gallery.approximate)

    def names(self) -> list[str]:
        """In the order of the alphabet. Never waits."""
        return sorted(self._galleries)

    async def create(self, name: str) -> bool:
        """Make a collection unless it is there; whether it is new.

        Raises:
            Problem: shutting_down, queue_full.
            InvalidCollectionError, LimitExceededError: it cannot be made.
            StoreFailedError: the disk refused.
        """
        async with self._turn:
            created = await self._stages.writers.run(self._stores.create, name, self._settings.max_collections)
            if name not in self._galleries:
                self._galleries[name] = self._gallery(self._stores.by_name[name])
        if created:
            log.info("made the collection %s", name)
        return created

    async def delete(self, name: str) -> None:
        """Remove a collection with all that it holds; calls under way in it end first.

        Raises:
            Problem: collection_not_found, shutting_down, queue_full; invalid_parameter for `default`.
            StoreFailedError: the disk refused.
        """
        if name == DEFAULT:
            rule = f"must be another one than {DEFAULT}, which cannot be removed; its items can"
            raise Problem("invalid_parameter", f"collection: {rule}", "collection")
        async with self._turn:
            self.gallery(name)
            removing = self._stages.writers.run(self._stores.remove, name)
            del self._galleries[name]
            await removing
        log.info("removed the collection %s", name)

    def close(self) -> None:
        """Finish what was accepted and close all stores."""
        self._stages.close()
        self._stores.close()

    def _gallery(self, store: Store) -> Gallery:
        return Gallery(store, self._embedder, self._stages, self._settings, self._metrics)

"""Replacing the bundle while requests are served.

Invariants:
- The old bundle serves until the new one is open, has embedded the canary image at every width, is warmed up at
  every (width, batch size) and accepted by all stores; an error before that leaves everything as it was.
- The new bundle must be able to share every collection, by the store's rule for opening a folder; the space being
  served counts as one that they hold, because requests of it are still under way.
- One swap runs at a time.
"""

import asyncio
import logging
from typing import Literal

from sfsc_bundle.errors import SfscError
from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.embedder import Embedder
from sfsc_service.engine.networks import Networks, open_networks
from sfsc_service.engine.threads import split_threads
from sfsc_service.errors import Problem
from sfsc_service.lifecycle.canary import check_networks
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.errors import FolderMismatchError, OpenRefusedError, StoreError
from sfsc_service.store.open_stores import OpenStores

__all__ = ["Swap"]

Outcome = Literal["done", "refused", "failed"]

log = logging.getLogger(__name__)


class Swap:
    """Reads the bundle folder of the settings again and serves what it finds."""

    def __init__(self, settings: Settings, embedder: Embedder, stores: OpenStores, metrics: Metrics) -> None:
        self._settings, self._embedder, self._stores, self._metrics = settings, embedder, stores, metrics
        self._turn = asyncio.Lock()
        self._pool = BlockingCalls("swap", 1, 1)
        self._closing = False

    async def run(self) -> Outcome:
        """Swap, or leave everything as it is and log why. Raises nothing."""
        async with self._turn:
            outcome = await self._run()
        self._metrics.swaps.labels(outcome).inc()
        return outcome

    def close(self) -> None:
        """Abandon a swap that is under way."""
        self._closing = True
        self._pool.close()

    async def _run(self) -> Outcome:
        folder = self._settings.bundle
        try:
            networks = await self._pool.run(self._open)
        except (OpenRefusedError, Problem) as refusal:
            log.error("the bundle %s is refused, the old bundle goes on: %s", folder, refusal)
            return "refused"
        except (SfscError, StoreError) as error:
            log.error("the bundle %s cannot be opened, the old bundle goes on: %s", folder, error)
            return "failed"
        except Exception:
            log.exception("the bundle %s cannot be opened, the old bundle goes on", folder)
            return "failed"
        self._embedder.switch(networks)
        manifest = networks.manifest
        self._metrics.announce(manifest)
        log.info(
            "now serving bundle %s, space %s, widths %s", manifest.name, manifest.space, " ".join(manifest.widths)
        )
        return "done"

    def _open(self) -> Networks:
        settings = self._settings
        _, inside = split_threads(settings.thread_count, settings.device)
        networks = open_networks(
            settings.bundle, settings.floor_width, settings.device, inside, settings.data, settings.acceleration
        )
        self._check_dimension(networks.manifest.dimension)
        check_networks(networks)
        networks.warm_up(settings.max_batch, lambda: not self._closing)
        if self._closing:
            raise Problem("shutting_down", "the service is shutting down")
        manifest = networks.manifest
        self._stores.adopt(manifest.space, manifest.dimension, manifest.compatible_with)
        return networks

    def _check_dimension(self, new: int) -> None:
        if (held := self._stores.default.dimension) != new:
            raise FolderMismatchError(
                f"its vectors have {new} numbers and those of the gallery {held}, so the gallery cannot be "
                "searched with it; serve it with a data folder of its own, or move the gallery with `sfsc reembed`"
            )

"""The quality that is in force: the bundle's own, or measured on the gallery's images while the service is idle.

Invariants:
- What is measured takes the place of the manifest's figures, in `min_quality` too, for the graphs that it was
  measured with and no others.
- An error that ends a measurement is logged and counted, and what was in force stays in force.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sfsc_bundle.manifest import Manifest, Quality
from sfsc_service.engine.embedder import Embedder
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.gallery.quality_file import MeasuredQuality, QualityFile
from sfsc_service.gallery.quality_measurement import QualityMeasurement
from sfsc_service.gallery.sampled_images import NotMeasurableError
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.protocol import Store

__all__ = ["QualityMeter", "QualityStatus"]

LOOK_EVERY_S = 1.0
CHANGED = 0.25
"""Where it is measured by itself: again after the number of items has changed by this share."""

QualityState = Literal["resting", "asked", "measuring", "paused"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QualityStatus:
    """What is in force, and what is under way.

    `measured`: None where `quality` is the bundle's own. `state`: asked, while a measurement waits; measuring;
    paused, while there are requests; resting. `embedded` of `drawn` images are embedded. `failure`: why the last
    measurement has none.
    """

    quality: Quality
    measured: MeasuredQuality | None
    state: QualityState
    embedded: int
    drawn: int
    failure: str | None


class QualityMeter:
    """Measures the widths of one embedder on the images of one store. To be made before there are requests."""

    def __init__(
        self, store: Store, embedder: Embedder, idle: IdleWork, settings: Settings, metrics: Metrics
    ) -> None:
        self._store, self._embedder, self._idle, self._metrics = store, embedder, idle, metrics
        self._field, self._by_itself = settings.quality_field, settings.quality == "idle"
        self._file = QualityFile(settings.data)
        self._asked: QualityMeasurement | None = None
        self._running: QualityMeasurement | None = None
        self._failure: str | None = None
        self._follow(embedder.manifest, self._file.read(embedder.manifest))
        found = self._measured
        self._tried_items = found.items if found is not None and found.field == self._field else None
        """How many items there were at the last attempt to measure by the settings."""

    def status(self) -> QualityStatus:
        """Never waits."""
        manifest, running = self._embedder.manifest, self._running
        measured = self._measured if self._manifest is manifest else None
        return QualityStatus(
            manifest.quality if measured is None else measured.quality,
            measured,
            self._state(),
            0 if running is None else running.images.embedded,
            0 if running is None else running.images.drawn,
            self._failure,
        )

    def notes(self) -> list[str]:
        """What an operator should know."""
        return [] if self._failure is None else [f"the quality of the gallery was not measured: {self._failure}"]

    def ask(self, field: str | None) -> None:
        """Measure when the service is idle next; `field` in the place of that of the settings.

        Raises InvalidFilterError: it cannot be the name of a field.
        """
        self._asked = self._new(self._field if field is None else field)

    async def forget(self) -> None:
        """Put the bundle's own figures in force again, and give up what is measured.

        Raises StoreFailedError, and Problem: shutting_down.
        """
        if self._running is not None:
            self._running.images.stop()
        self._asked = self._running = self._failure = None
        try:
            await self._idle.call_now(self._file.delete)
        except OSError as error:
            raise StoreFailedError(f"{self._file.path} cannot be removed: {error}") from error
        self._tried_items = self._store.count()
        self._follow(self._embedder.manifest, None)

    async def run(self) -> None:
        """Measure whenever it is due, for ever."""
        while True:
            try:
                await self._look()
            except NotMeasurableError as error:
                if self._running is not None:  # it was not given up
                    self._failure = str(error)
                    log.warning("the quality of the gallery was not measured: %s", error)
            except Exception as error:
                self._failure = str(error) or type(error).__name__
                self._metrics.idle_failures.labels("quality").inc()
                log.exception("the quality of the gallery was not measured")
            self._running = None
            await asyncio.sleep(LOOK_EVERY_S)

    def _state(self) -> QualityState:
        if self._running is not None:
            return "paused" if self._idle.paused else "measuring"
        return "resting" if self._asked is None else "asked"

    def _new(self, field: str | None) -> QualityMeasurement:
        return QualityMeasurement(self._store, self._embedder, self._idle, field)

    async def _look(self) -> None:
        manifest = self._embedder.manifest
        if manifest is not self._manifest:
            self._follow(manifest, await self._idle.call(self._file.read, manifest))
        items = self._store.count()
        if self._asked is None and self._by_itself and self._is_due(items):
            self._asked = self._new(self._field)
        if self._asked is None:
            return
        running = self._running = self._asked
        self._asked = None
        self._tried_items, self._failure = items, None
        quality = await running.run()
        if self._running is not running:  # it was given up
            return
        measured = MeasuredQuality(
            graphs=manifest.graphs,
            measured=datetime.now(UTC).replace(microsecond=0),
            items=items,
            field=running.images.field,
            quality=quality,
        )
        await self._idle.call(self._file.write, measured)
        self._follow(manifest, measured)
        log.info("the quality of the gallery was measured on %d of its images", quality.gallery)

    def _is_due(self, items: int) -> bool:
        return self._tried_items is None or abs(items - self._tried_items) > CHANGED * self._tried_items

    def _follow(self, manifest: Manifest, measured: MeasuredQuality | None) -> None:
        """Put `measured` in force, or the manifest's own figures, if that bundle is still served."""
        self._manifest, self._measured = manifest, measured
        if manifest is self._embedder.manifest:
            quality = manifest.quality if measured is None else measured.quality
            self._embedder.use_quality(quality)
            self._metrics.set_quality(quality, None if measured is None else measured.measured)

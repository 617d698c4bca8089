"""Aligning the widths on the gallery's own images, and undoing it.

Maps are fitted on a sample of the stored images while the service is idle. Where they help, they are put in force:
first in the alignment file, then by a swap of the networks, from which on new vectors and those of clients come
aligned. Then the narrow vectors that are stored are multiplied by the same maps. Undoing takes the same way back.

Invariants:
- The alignment file is ahead of the networks and of the stored vectors, and each item's space says whether its
  vector follows. So a kill at any moment loses nothing: the next start serves what the file says, and goes on.
- Until all are converted, a stored narrow vector is compared as before with those of the full width, which stay.
- An error of the fitting leaves everything as it was; one of the conversion is logged, and it is tried again.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sfsc_bundle.errors import BundleError
from sfsc_service.engine.alignment_file import AlignmentFile, AlignmentWish, FittedAlignment
from sfsc_service.engine.embedder import Embedder
from sfsc_service.engine.gallery_alignment import GalleryAlignment, digest_of_maps
from sfsc_service.engine.networks import Networks
from sfsc_service.errors import Problem
from sfsc_service.gallery.fitted_maps import HELD_OUT, FittedMaps, fit_maps, sample_size
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.gallery.sampled_images import NotMeasurableError, SampledImages
from sfsc_service.gallery.vector_conversion import VectorConversion
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.errors import StoreClosedError, StoreFailedError
from sfsc_service.store.open_stores import OpenStores

__all__ = ["AlignStatus", "Aligner"]

LOOK_EVERY_S = 1.0
RETRY_S = 10.0
SETTLE_S = 30.0
"""Seconds after a swap in which requests that were admitted before may still store vectors of the other space."""

ONE_WIDTH = "the bundle has one width, so there is nothing to align"

AlignState = Literal["resting", "asked", "measuring", "converting", "paused"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlignStatus:
    """What is in force, and what is under way.

    `space`: in force; `bundle_space`: the bundle's own. `fitted`: None where there are no maps; `in_force`: false
    while they are being undone. `state`: asked, while the fitting waits; measuring, until it is
    done; converting stored vectors; paused, while there are requests; resting. `embedded` of `drawn` images are
    embedded. `unchecked`: items that the conversion has not looked at yet; `converted` since the start.
    `failure`: why there is no alignment, or why the conversion is tried again.
    """

    space: str
    bundle_space: str
    fitted: FittedAlignment | None
    in_force: bool
    state: AlignState
    embedded: int
    drawn: int
    unchecked: int
    converted: int
    failure: str | None


class Aligner:
    """Aligns the networks of one embedder on the images of the collection `default`; all collections follow.

    To be made before there are requests.

    Args:
        swap: opens the bundle and the alignment file again and serves what it finds; logs why where it cannot.

    Raises BundleError: the alignment file cannot be read.
    """

    def __init__(
        self,
        stores: OpenStores,
        embedder: Embedder,
        idle: IdleWork,
        settings: Settings,
        metrics: Metrics,
        swap: Callable[[], Awaitable[object]],
    ) -> None:
        self._stores, self._embedder, self._idle, self._metrics = stores, embedder, idle, metrics
        self._swap = swap
        self._field, self._is_shared = settings.quality_field, settings.store != "embedded"
        self._file = AlignmentFile(settings.data)
        saved = self._file.read()
        self._asked, self._fitted = saved.asked, saved.fitted
        self._images: SampledImages | None = None
        self._conversion = VectorConversion(embedder, idle, metrics)
        self._converted: Networks | None = None
        self._switched = -math.inf
        self._failure: str | None = None
        self._turn = asyncio.Lock()
        """Held while the file and the networks change."""
        metrics.align_unchecked.set_function(lambda: self._conversion.unchecked)
        metrics.aligned.set_function(lambda: float(self._in_force))

    def status(self) -> AlignStatus:
        """Never waits."""
        networks, images = self._embedder.networks, self._images
        return AlignStatus(
            networks.manifest.space,
            networks.own.space,
            self._fitted if networks.alignment is not None else None,
            self._in_force,
            self._state(),
            0 if images is None else images.embedded,
            0 if images is None else images.drawn,
            self._conversion.unchecked,
            self._conversion.converted,
            self._failure,
        )

    def notes(self) -> list[str]:
        """What an operator should know."""
        return [] if self._failure is None else [f"the alignment of the gallery: {self._failure}"]

    async def ask(self, field: str | None) -> None:
        """Align when the service is idle next; `field` names what an image shows, in the place of the settings.

        Raises:
            Problem: already_aligned, gallery_shared, one_width.
            InvalidFilterError: `field` cannot be the name of one.
            StoreFailedError: the wish cannot be kept.
        """
        if self._is_shared:
            rule = "a gallery in Milvus cannot be: the other services that share it would not know of it"
            raise Problem("gallery_shared", f"alignment: {rule}")
        if len(self._embedder.manifest.widths) < 2:
            raise Problem("one_width", f"alignment: {ONE_WIDTH}")
        wish = AlignmentWish(field=self._field if field is None else field)
        self._sample(wish)
        async with self._turn:
            if self._embedder.networks.alignment is not None:
                rule = "it must be undone, and that be done, before the gallery can be aligned anew"
                raise Problem("already_aligned", f"the gallery is aligned, or the undoing of that goes on; {rule}")
            await self._keep(self._file.ask, wish)
            self._asked, self._failure = wish, None
            if self._images is not None:
                self._images.stop()

    async def undo(self) -> None:
        """Serve the bundle without alignment again; stored vectors follow when the service is idle.

        A fitting that was asked for is given up. Raises StoreFailedError: it stays as it was.
        """
        async with self._turn:
            self._asked = self._failure = None
            if self._images is not None:
                self._images.stop()
            if self._embedder.networks.alignment is None:
                await self._keep(self._file.delete)
            elif self._in_force:
                await self._keep(self._file.put_in_force, False)
                await self._switch()
                if self._in_force:
                    await self._keep(self._file.put_in_force, True)
                    raise StoreFailedError("the bundle could not be opened again and stays aligned; see the log")

    async def run(self) -> None:
        """Fit and convert whenever there is something to, for ever."""
        while True:
            try:
                await self._look()
            except Exception as error:
                self._failure = str(error) or type(error).__name__
                self._metrics.idle_failures.labels("align").inc()
                log.exception("the alignment of the gallery waits %g s after an error", RETRY_S)
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(LOOK_EVERY_S)

    @property
    def _in_force(self) -> bool:
        alignment = self._embedder.networks.alignment
        return alignment is not None and alignment.in_force

    def _state(self) -> AlignState:
        networks = self._embedder.networks
        if self._images is not None and self._asked is not None:  # a sample without a wish is being given up
            return "paused" if self._idle.paused else "measuring"
        if networks.alignment is not None and self._converted is not networks:
            return "paused" if self._idle.paused else "converting"
        return "resting" if self._asked is None else "asked"

    async def _look(self) -> None:
        networks = self._embedder.networks
        if networks.alignment is not None:
            if self._converted is not networks:
                await self._convert(networks, networks.alignment)
                self._failure = None
        elif self._asked is not None:
            await self._align(networks, self._asked)

    def _sample(self, wish: AlignmentWish) -> SampledImages:
        most = sample_size(self._embedder.manifest.dimension)
        return SampledImages(self._stores.default, self._embedder, self._idle, wish.field, most, HELD_OUT // 2)

    async def _align(self, networks: Networks, wish: AlignmentWish) -> None:
        """Fit, and put in force what helps; the wish is fulfilled or given up, unless the service shuts down."""
        try:
            found = await self._fit(networks, wish)
        except NotMeasurableError as error:
            await self._give_up(wish, str(error))
            return
        except Exception as error:
            if isinstance(error, Problem) and error.code == "shutting_down":
                raise
            await self._give_up(wish, "the fitting ended with an error, which the log names")
            raise
        async with self._turn:
            if self._asked is not wish or self._embedder.networks is not networks:
                return
            fitted = _described(found, wish)
            await self._keep(self._file.write, networks.own, fitted, found.maps)
            self._fitted = fitted
            await self._switch()
            if not self._in_force:
                await self._keep(self._file.delete)
                self._asked = None
                self._failure = "the bundle could not be opened with the maps and goes on without; see the log"
                return
            self._asked = None
        log.info(
            "the widths were aligned on %d images: mAP %.2f before and %.2f after, of %d queries in a gallery of "
            "mixed widths; narrow vectors in the gallery follow",
            found.images,
            found.before,
            found.after,
            found.queries,
        )

    async def _fit(self, networks: Networks, wish: AlignmentWish) -> FittedMaps:
        """Raises NotMeasurableError: there are too few images, or the maps do not help."""
        if len(networks.manifest.widths) < 2:
            raise NotMeasurableError(ONE_WIDTH)
        self._images = self._sample(wish)
        try:
            found = await fit_maps(await self._images.embed(networks.manifest), self._idle)
        finally:
            self._images = None
        if not found.helps:
            raise NotMeasurableError(
                f"it would not help enough: mAP is {found.before:.2f} without maps and {found.after:.2f} with, "
                f"of {found.queries} queries in a gallery of mixed widths"
            )
        return found

    async def _give_up(self, wish: AlignmentWish, reason: str) -> None:
        async with self._turn:
            if self._asked is wish:
                await self._keep(self._file.delete)
                self._asked, self._failure = None, reason
                log.warning("the gallery was not aligned: %s", reason)

    async def _convert(self, networks: Networks, alignment: GalleryAlignment) -> None:
        """Convert what is stored, until no vector of the other space can come any more."""
        while self._embedder.networks is networks:
            began = time.monotonic()
            found = 0
            for store in self._stores.by_name.values():
                with contextlib.suppress(StoreClosedError):  # its collection was removed
                    found += await self._conversion.run_pass(store, networks, alignment)
            if not found and began - self._switched >= SETTLE_S:
                break
            await asyncio.sleep(0.0 if found else LOOK_EVERY_S)
        async with self._turn:
            if self._embedder.networks is not networks:
                return
            if not alignment.in_force:
                own = alignment.own
                await self._idle.call_now(self._stores.adopt, own.space, own.dimension, own.compatible_with)
                await self._keep(self._file.delete)
                await self._switch()
                log.info("the alignment of the gallery is undone")
            self._converted = networks

    async def _switch(self) -> None:
        await self._swap()
        self._switched = time.monotonic()

    async def _keep(self, call: Callable[..., None], *args: object) -> None:
        """Change the alignment file. Raises StoreFailedError, and Problem: shutting_down."""
        try:
            await self._idle.call_now(call, *args)
        except (OSError, BundleError) as error:
            raise StoreFailedError(f"{self._file.path} cannot be written: {error}") from error


def _described(found: FittedMaps, wish: AlignmentWish) -> FittedAlignment:
    return FittedAlignment(
        maps=digest_of_maps(found.maps),
        made=datetime.now(UTC).replace(microsecond=0),
        field=wish.field,
        method=found.method,
        strength=found.strength,
        images=found.images,
        queries=found.queries,
        before=found.before,
        after=found.after,
    )

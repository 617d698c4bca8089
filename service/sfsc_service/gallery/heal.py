"""Items for which the service chose a narrow width are embedded again at a wider one, when it is idle.

A budget or the load decided their width; their images are stored, so there is no need to leave it at that.

Invariants:
- Only the vector, the space and the width of an item change, and only if the item is as it was when it was read.
- An item is left as it is where its image, embedded again at its width, does not give its vector: then a part of
  the image was embedded (the box is not stored).
- Nothing is kept of a pass but what is stored, so one that was interrupted is resumed by the next.
- An item that cannot be healed is counted, and the pass goes on. An error of the store ends the pass; another one
  begins `RETRY_S` later.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Manifest
from sfsc_service.engine.embedder import Embedder
from sfsc_service.errors import Problem, StartError
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.metrics import HEAL_OUTCOMES, HealOutcome, Metrics
from sfsc_service.store.errors import StoreClosedError, StoreError
from sfsc_service.store.open_stores import OpenStores
from sfsc_service.store.protocol import Store, StoredItem, VectorChange

__all__ = ["HealProgress", "Healer", "check_heal_target"]

PAGE = 64
"""Items that are read, and at most replaced, in one call of the store."""
SAME_COSINE = 0.999
"""From here on two vectors are of the same pixels: a batch of another size changes less."""
RETRY_S = 10.0
LOOK_EVERY_S = 1.0
PASS_EVERY_S = 600.0
"""Seconds after which a pass begins though no number of items has changed."""
REST = 10
"""After a pass that healed nothing comes a rest of so many times its own length, of `PASS_EVERY_S` at most."""
MAX_LEFT = 1_000_000

HealState = Literal["off", "healing", "paused", "done", "failed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealProgress:
    """How far healing is.

    `state`: off; healing; paused, while there are requests; done, when no item is left to look at; failed, until
    the next attempt. `unchecked`: items narrower than `target` that the present pass has not looked at yet.
    `items`: how many came out how, since the start of the service.
    """

    state: HealState
    target: str | None
    unchecked: int
    items: dict[HealOutcome, int]


def check_heal_target(wanted: str, manifest: Manifest) -> None:
    """Refuse a width that the bundle does not have. Raises StartError."""
    if wanted not in ("off", "full", *manifest.widths):
        raise StartError(f"heal: must be off, full or one of {', '.join(manifest.widths)}, found {wanted}")


class Healer:
    """Heals the items of all collections.

    Args:
        wanted: off, full, or the width to heal to.
    """

    def __init__(
        self, stores: OpenStores, embedder: Embedder, idle: IdleWork, wanted: str, metrics: Metrics
    ) -> None:
        self._stores, self._embedder, self._idle, self._metrics = stores, embedder, idle, metrics
        self._wanted = wanted
        self._unchecked = 0
        self._healing = False
        self._failure: str | None = None
        self._counts: Counter[HealOutcome] = Counter()
        self._left: set[int] = set()
        """Hashes of versions of items that cannot be healed."""
        metrics.heal_unchecked.set_function(lambda: self._unchecked)

    @property
    def target(self) -> str | None:
        """The width to heal to; None where nothing is healed."""
        widths = self._embedder.manifest.widths
        if self._wanted == "full":
            return widths[-1]
        return self._wanted if self._wanted in widths else None

    def progress(self) -> HealProgress:
        """Never waits."""
        counts = {outcome: self._counts[outcome] for outcome in HEAL_OUTCOMES}
        return HealProgress(self._state(), self.target, self._unchecked, counts)

    def notes(self) -> list[str]:
        """What an operator should know."""
        if self._failure is not None:
            return [f"items are not healed, the next attempt is made within {RETRY_S:g} s: {self._failure}"]
        if self._wanted != "off" and self.target is None:
            return [f"items are not healed: the bundle has no width {self._wanted}"]
        return []

    async def run(self) -> None:
        """Heal for ever; an error in a pass is logged and counted, and another pass follows."""
        while True:
            try:
                await self._run_pass()
            except Exception as error:
                self._healing = False
                self._failure = str(error) or type(error).__name__
                self._metrics.idle_failures.labels("heal").inc()
                log.exception("healing stopped; the next attempt is made in %g s", RETRY_S)
                await asyncio.sleep(RETRY_S)

    def _state(self) -> HealState:
        if self.target is None:
            return "off"
        if self._failure is not None:
            return "failed"
        if not self._healing:
            return "done"
        return "paused" if self._idle.paused else "healing"

    async def _run_pass(self) -> None:
        manifest, target = self._embedder.manifest, self.target
        narrower = () if target is None else manifest.widths[: manifest.widths.index(target)]
        began, healed = time.monotonic(), self._counts["healed"]
        found = self._numbers(narrower)
        unchecked = sum(map(sum, found.values()))
        if target is not None and unchecked:
            self._healing, self._unchecked = True, unchecked
            for store in self._stores.by_name.values():
                with contextlib.suppress(StoreClosedError):  # its collection was removed
                    await self._heal_all(store, manifest, narrower, target)
        self._healing, self._unchecked, self._failure = False, 0, None
        # After a pass that healed something the numbers differ, so another one looks at what came meanwhile.
        rest_s = 0.0 if self._counts["healed"] > healed else REST * (time.monotonic() - began)
        await self._rest(manifest, narrower, found, rest_s)

    async def _rest(
        self, manifest: Manifest, narrower: tuple[str, ...], found: dict[str, list[int]], least_s: float
    ) -> None:
        """Wait until there may be something to heal, but for `least_s` in any case."""
        began = time.monotonic()
        while (rested := time.monotonic() - began) < PASS_EVERY_S:
            changed = manifest is not self._embedder.manifest or found != self._numbers(narrower)
            if changed and rested >= least_s:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    def _numbers(self, widths: tuple[str, ...]) -> dict[str, list[int]]:
        """The items of these widths, by collection."""
        compositions = self._stores.compositions().items()
        return {name: [composition.get(width, 0) for width in widths] for name, composition in compositions}

    async def _heal_all(self, store: Store, manifest: Manifest, narrower: tuple[str, ...], target: str) -> None:
        cursor = None
        while manifest is self._embedder.manifest:
            page = await self._idle.call(store.page, cursor, PAGE, {"$width": {"$in": list(narrower)}})
            changes = []
            for item in page.items:
                made = (
                    await self._attempt(store, item, manifest, target) if self._is_wanted(item, manifest) else None
                )
                if isinstance(made, _Unhealed):
                    self._leave(item, made)
                elif made is not None:
                    changes.append(made)
                self._unchecked = max(0, self._unchecked - 1)
            if changes:
                for replaced in await self._idle.call(store.replace_vectors, changes):
                    self._count("healed" if replaced else "changed")
            if page.cursor is None:
                return
            cursor = page.cursor

    def _is_wanted(self, item: StoredItem, manifest: Manifest) -> bool:
        return (
            item.reason in ("budget", "load")
            and item.image_digest is not None
            and item.space == manifest.space
            and _version(item) not in self._left
        )

    async def _attempt(
        self, store: Store, item: StoredItem, manifest: Manifest, target: str
    ) -> "VectorChange | _Unhealed | None":
        """The item's vector at the target width, or why it has none; None where another bundle is served now."""
        try:
            image = await self._idle.call(store.image, item.id)
            if image is None or image.digest != item.image_digest:
                return _Unhealed("changed")
            again = await self._idle.embed(image.data, item.width)
            if again.manifest is not manifest:
                return None
            if float(again.vector @ item.vector) < SAME_COSINE:
                return _Unhealed("differs", for_good=True)
            wider = await self._idle.embed(image.data, target)
        except ImageError:
            return _Unhealed("unreadable", for_good=True)
        except StoreClosedError:
            raise
        except StoreError:  # of this image alone, as the item was read; a fault of the store ends the next call
            log.exception("the image of the item %r cannot be read, so the item is not healed now", item.id)
            return _Unhealed("unreadable")
        except Problem as problem:
            if problem.code in ("no_worker", "shutting_down"):
                raise
            log.warning("the item %r is not healed now: %s", item.id, problem.detail)
            return _Unhealed("failed", for_good=problem.code == "inference_failed")
        except Exception:
            log.exception("the item %r cannot be embedded again, so it is left as it is", item.id)
            return _Unhealed("failed", for_good=True)
        return None if wider.manifest is not manifest else VectorChange(item, manifest.space, target, wider.vector)

    def _leave(self, item: StoredItem, unhealed: "_Unhealed") -> None:
        if unhealed.for_good and len(self._left) < MAX_LEFT:
            self._left.add(_version(item))
        self._count(unhealed.outcome)

    def _count(self, outcome: HealOutcome) -> None:
        self._counts[outcome] += 1
        self._metrics.heal_items.labels(outcome).inc()


@dataclass(frozen=True, slots=True)
class _Unhealed:
    """An item that is left as it is. `for_good`: another attempt would end alike."""

    outcome: HealOutcome
    for_good: bool = False


def _version(item: StoredItem) -> int:
    return hash((item.id, item.image_digest, item.width, item.vector.tobytes()))

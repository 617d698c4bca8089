"""Searches that a demo makes by itself, so that visitors can see the service under load.

Each goes the way of a request to /search that leaves the width open, from decoding to hits, but without HTTP. They
begin at random times (a Poisson process), whether or not earlier ones have ended, as those of many visitors would.

The load is bounded in rate and in open searches, and ends by itself when nobody has looked at it for a while.
"""

import asyncio
import io
import itertools
import logging
import random
import time
from collections.abc import Sequence

from PIL import Image

from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from sfsc_service.engine.arrival import Arrival
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import Gallery
from sfsc_service.gallery.hit_selection import HitSelection

__all__ = ["MAX_PER_S", "SimulatedLoad", "small_jpeg"]

MAX_PER_S = 2000.0
"""The highest rate, in searches a second."""
MAX_OPEN = 4096
"""Searches that are open at a time; what would begin beyond that is left out."""
UNWATCHED_S = 10.0
"""Seconds without a look after which the load ends."""
AT_ONCE = 16
"""Searches that begin in a turn of the event loop. A server takes up its requests a few at a time, too; if all
that are due began in one turn, each would wait for the first steps of all others."""
MAX_LAG_S = 0.05
"""What is due for longer, because the event loop has no time for more, is refused without having begun."""
HITS = HitSelection(10)

log = logging.getLogger(__name__)


def small_jpeg(data: bytes, preprocessing: Preprocessing) -> bytes:
    """An image as a device would send it: a JPEG of the size that the networks take. Raises ImageError."""
    buffer = io.BytesIO()
    Image.fromarray(preprocess(data, preprocessing)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class SimulatedLoad:
    """Searches at a rate of choice. Every method is to be called in the event loop.

    Args:
        images: encoded; at least one.

    Attributes:
        per_s: the rate, in searches a second; 0 while there is no load.
        open: searches that have begun and not ended.
        answered: how many got their hits.
        refused: how many the service refused, or had no time to begin.
    """

    def __init__(self, gallery: Gallery, images: Sequence[bytes]) -> None:
        self._gallery = gallery
        self._images = itertools.cycle(images)
        self._seen = -UNWATCHED_S
        self._running: asyncio.Task[None] | None = None
        self._searches: set[asyncio.Task[None]] = set()
        self.per_s = 0.0
        self.answered = self.refused = 0

    @property
    def open(self) -> int:
        return len(self._searches)

    def look(self) -> None:
        """Note that somebody looks at the load."""
        self._seen = time.monotonic()

    def set_rate(self, per_s: float) -> None:
        """Change the rate; 0 ends the load."""
        self.look()
        self.per_s = min(per_s, MAX_PER_S)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    def close(self) -> None:
        """End the load and every search that is open."""
        self.per_s = 0.0
        for task in (self._running, *self._searches):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        due = time.monotonic()
        while self.per_s:
            now = time.monotonic()
            if now > self._seen + UNWATCHED_S:
                self.per_s = 0.0
                break
            while due < now - MAX_LAG_S:
                self.refused += 1
                due += random.expovariate(self.per_s)
            for _ in range(AT_ONCE):
                if due > now:
                    break
                self._begin()
                due += random.expovariate(self.per_s)
            await asyncio.sleep(min(max(due - now, 0.0), 1.0))

    def _begin(self) -> None:
        if len(self._searches) < MAX_OPEN:
            search = asyncio.create_task(self._search(next(self._images)))
            self._searches.add(search)
            search.add_done_callback(self._searches.discard)
        else:
            self.refused += 1

    async def _search(self, image: bytes) -> None:
        try:
            arrival = Arrival.now()
            query = await self._gallery.query_image(image, None, Budget(), arrival)
            await self._gallery.search(query, HITS, None, len, arrival)
        except Problem:
            self.refused += 1
        except Exception:
            log.exception("a search of the simulated load failed, so the load ends")
            self.per_s = 0.0
        else:
            self.answered += 1

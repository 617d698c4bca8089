"""The threads and queues that the galleries of all collections share, because they share the machine.

Predicted times are means over the calls of all of them.
"""

from collections.abc import Callable

from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.bounded_stage import BoundedStage
from sfsc_service.gallery.bulk_load import BulkLoad
from sfsc_service.gallery.search_stage import SearchStage, Wanted
from sfsc_service.gallery.store_search import search_store
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import Float32, Hit

__all__ = ["FILTERED", "READERS", "GalleryStages"]

FILTERED = 2
"""Threads for searches with a filter: a short one should not wait for a long one."""
PARALLEL_COMMITS = 16
CLOSE_S = 1.0
"""Seconds that closing waits for searches; by then, requests that were to be answered have been."""
READERS = 2
"""Threads that look up items, which takes well under a millisecond each."""


class GalleryStages:
    """A stage for each kind of call of a store, and what bulk calls have under way.

    Args:
        bulk_limit_s: images of a bulk call → seconds that they may take together.
    """

    def __init__(self, settings: Settings, metrics: Metrics, bulk_limit_s: Callable[[float], float]) -> None:
        self.searches = SearchStage(_search, settings.queue_ms, settings.nice, metrics.search_batch.observe)
        # Filters may cost a thousand times what other searches do, which so do not wait behind them.
        self.filtered = BoundedStage("filter", FILTERED, settings.queue_ms, settings.nice)
        # A call takes a second, and its caller makes the next one at once: so there is one at a time.
        self.duplicates = BoundedStage("duplicates", 1, settings.queue_ms, settings.nice)
        self.lookups = BoundedStage("lookup", READERS, settings.queue_ms)
        self.writers = BlockingCalls("write", PARALLEL_COMMITS, 1024)
        self.bulk = BulkLoad(bulk_limit_s)
        metrics.bulk_backlog.set_function(lambda: self.bulk.predicted_s)
        metrics.search_backlog.set_function(lambda: max(self.searches.backlog_ms, self.filtered.backlog_ms) / 1000)

    def close(self) -> None:
        """Finish what was accepted."""
        self.searches.close(CLOSE_S)
        for stage in (self.filtered, self.duplicates, self.lookups):
            stage.close()
        self.writers.close()


def _search(vectors: Float32, wanted: Wanted) -> tuple[list[list[Hit]], bool]:
    return search_store(wanted.store, vectors, wanted.k, exact=wanted.exact, with_vectors=wanted.vectors)

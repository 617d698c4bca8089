"""Approximate search: candidates from quantised rows, exact scores of them from the index.

Invariants:
- Quantised rows are made in the background. Until they are there, and in a gallery too small for them, there is no
  approximate search, and the caller searches exactly.
- Rows that they lack, because they are newer, are searched exactly beside them: a change that was acknowledged is
  seen by every later search.
- Scores are exact, and only live rows are hits; what may be missing is a hit. How many are is measured with the
  gallery's own vectors.
"""

import logging
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from sfsc_bundle.thread_priority import lower_priority
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.faiss_rows import BestRows, make_index
from sfsc_service.store.embedded.index.quantised_rows import Quantisation, QuantisedRows, sample_size
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.index.vector_rows import TopK
from sfsc_service.store.embedded.rwlock import ReadWriteLock
from sfsc_service.store.protocol import ApproximateStatus, Float32

__all__ = ["ApproximateSearch"]

# Candidates for each hit that is wanted: their order by quantised scores is not that of their exact scores.
_CANDIDATES_PER_HIT = 4
_LEAST_CANDIDATES = 64
_MAX_K = 1_024
# Rows are added to those that searches use in parts so small that no search waits for long.
_ROWS_AT_ONCE = 256
# Changes wait while rows are read or compared, and this thread may get little of a core.
_READ_AT_ONCE = 4_096
# So many new rows are searched exactly at hardly any cost.
_MAX_MISSING = 1_024
_DEAD_SHARE = 0.25
_GROWTH = 3.0
_MEASURED_GROWTH = 1.25
_MEASURED_QUERIES = 128
_MEASURED_K = 10
_QUERIES_AT_ONCE = 8
_RECALL = 0.99
# Many small changes cause one look at what has changed.
_PAUSE_S = 0.05
_RETRY_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Built:
    """Quantised rows in use.

    Attributes:
        covered: the newest sequence number that is in them.
        trained_for: how many rows there were when they were trained, and `measured_for` when recall was measured.
    """

    rows: QuantisedRows
    covered: int
    trained_for: int
    measured_for: int = 0
    recall: float = 0.0


class ApproximateSearch:
    """`threads`: for one search; `min_rows`: with fewer, every search is exact."""

    def __init__(self, index: VectorIndex, quantisation: Quantisation, threads: int, min_rows: int) -> None:
        self._index, self._quantisation = index, quantisation
        self._threads, self._min_rows = threads, min_rows
        self._built: _Built | None = None
        self._lock = ReadWriteLock()
        self._work = threading.Event()
        self._work.set()
        self._closing = threading.Event()
        self._rng = np.random.default_rng(0)
        self._thread = threading.Thread(target=self._run, name="sfsc-store-quantiser", daemon=True)
        self._thread.start()

    @property
    def status(self) -> ApproximateStatus:
        """Never waits."""
        built = self._built
        if built is None:
            return ApproximateStatus(self._quantisation, 0, None)
        return ApproximateStatus(self._quantisation, len(built.rows), built.recall)

    def wake(self) -> None:
        """Rows were added or deleted."""
        self._work.set()

    def close(self) -> None:
        self._closing.set()
        self._work.set()
        self._thread.join()

    def search(self, queries: Float32, k: int) -> list[TopK] | None:
        """About the min(k, rows) best for each of `queries` [n, D], n > 0; None: search exactly."""
        built = self._built
        return None if built is None or k > _MAX_K else self._search(built, queries, k)

    def _search(self, built: _Built, queries: Float32, k: int) -> list[TopK]:
        wanted = max(_CANDIDATES_PER_HIT * k, _LEAST_CANDIDATES)
        with self._lock.shared():
            covered = built.covered
            candidates = built.rows.search(queries, min(wanted, len(built.rows)))
        return self._index.search_candidates(queries, k, candidates, covered)

    def _run(self) -> None:
        lower_priority(19)
        while not self._closing.wait(_PAUSE_S):
            self._work.wait()
            self._work.clear()
            try:
                self._catch_up()
            except Exception:
                _log.exception("approximate search could not be brought up to date, tried again in %g s", _RETRY_S)
                self._closing.wait(_RETRY_S)
                self._work.set()

    def _catch_up(self) -> None:
        rows, built = len(self._index), self._built
        if rows < self._min_rows:
            if built is not None and rows < self._min_rows // 2:
                self._built = None
            return
        if built is None or self._is_outdated(built, rows):
            self._build(rows)
            return
        if self._index.count_after(built.covered) > _MAX_MISSING:
            self._extend(built)
        if rows > _MEASURED_GROWTH * built.measured_for:
            self._measure(built)

    def _is_outdated(self, built: _Built, rows: int) -> bool:
        covered = rows - self._index.count_after(built.covered)
        return rows > _GROWTH * built.trained_for or covered < (1.0 - _DEAD_SHARE) * len(built.rows)

    def _build(self, rows: int) -> None:
        began = time.monotonic()
        sample = self._index.sample(sample_size(self._quantisation, rows), self._rng)
        built = _Built(QuantisedRows(self._quantisation, sample, rows, self._threads), 0, rows)
        del sample
        self._extend(built)
        self._measure(built)
        if self._closing.is_set():
            return
        self._built = built
        _log.info(
            "approximate search (%s) is ready after %.0f s: %d vectors, %d of %d lists are scanned, "
            "recall@%d of the gallery's own vectors %.3f",
            self._quantisation,
            time.monotonic() - began,
            len(built.rows),
            built.rows.probes,
            built.rows.lists,
            _MEASURED_K,
            built.recall,
        )

    def _extend(self, built: _Built) -> None:
        """Add the rows that are newer than `built`."""
        while not self._closing.is_set():
            sequences, vectors = self._index.rows_after(built.covered, _READ_AT_ONCE)
            if not len(sequences):
                return
            for first in range(0, len(sequences), _ROWS_AT_ONCE):
                part = slice(first, first + _ROWS_AT_ONCE)
                with self._lock.exclusive() if built is self._built else nullcontext():
                    built.rows.add(sequences[part], vectors[part])
                    built.covered = int(sequences[part][-1])

    def _measure(self, built: _Built) -> None:
        """Find the fewest lists with which recall is as wanted, and measure it with other queries."""
        built.measured_for = len(self._index)
        queries, expected = self._measurement()
        while self._recall(built, queries, expected) < _RECALL and built.rows.probes < built.rows.lists:
            built.rows.probes = min(2 * built.rows.probes, built.rows.lists)
        built.recall = self._recall(built, *self._measurement())

    def _measurement(self) -> tuple[Float32, Int64]:
        """Some of the vectors as queries [n, D], and the sequence numbers [n, k] of their nearest ones.

        The index is read in parts: a search of all of it by a thread of low priority would hold changes up.
        """
        queries = self._index.sample(_MEASURED_QUERIES, self._rng)
        best, read = BestRows(len(queries), _MEASURED_K + 1), 0
        while not self._closing.is_set():
            sequences, vectors = self._index.rows_after(read, _READ_AT_ONCE)
            if not len(sequences):
                break
            rows = make_index(self._index.dimension, "cpu", 1, [vectors])
            scores, positions = rows.search(queries, min(_MEASURED_K + 1, len(rows)), None)
            best.add(scores, sequences[positions], 0)
            read = int(sequences[-1])
        return queries, best.result()[1]

    def _recall(self, built: _Built, queries: Float32, expected: Int64) -> float:
        """The share of the nearest vectors that are found; a vector itself, the first one, does not count."""
        found: list[TopK] = []
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            found += self._search(built, queries[first : first + _QUERIES_AT_ONCE], _MEASURED_K + 1)
        shares = [np.isin(wanted[1:], one.sequences).mean() for wanted, one in zip(expected, found, strict=True)]
        return float(np.mean(shares))

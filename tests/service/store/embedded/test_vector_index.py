"""The index by itself: brute force, digit for digit, whatever was added, removed and compacted before."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index import faiss_rows
from sfsc_service.store.embedded.index import vector_index as index_module
from sfsc_service.store.embedded.index.allowed import Allowed
from sfsc_service.store.embedded.index.faiss_rows import AcceleratedRows, HostRows, make_index, probe
from sfsc_service.store.embedded.index.replacement import MappedRows
from sfsc_service.store.embedded.index.vector_index import VectorIndex, VersionNotIndexedError
from sfsc_service.store.errors import DeviceUnavailableError
from sfsc_service.store.protocol import Float32
from tests.service.store.making import unit_vectors
from tests.service.store.oracle import score

D = 8
NONE: Int64 = np.empty(0, np.int64)


class DeviceStandIn:
    """A device index that, like some real ones, knows no selectors and takes k up to a limit only."""

    def __init__(self, dimension: int) -> None:
        self._index = faiss.IndexFlatIP(dimension)
        self.searches = 0

    def add(self, vectors: Float32) -> None:
        self._index.add(vectors)

    def reset(self) -> None:
        self._index.reset()

    def search(self, queries: Float32, k: int) -> Any:
        assert k <= 2_048
        self.searches += 1
        return self._index.search(queries, k)


@pytest.fixture(params=["host", "accelerated"])
def empty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes an index that asks its device even for a handful of rows."""

    def make(dimension: int = D) -> VectorIndex:
        return VectorIndex(dimension, "cpu", 1, few_rows=0)

    if request.param == "accelerated":
        monkeypatch.setattr(index_module, "make_index", accelerated(DeviceStandIn))
    return make


def brute_force(rows: dict[int, Float32], query: Float32, k: int) -> list[tuple[float, int]]:
    scored = sorted((-score(vector, query), sequence) for sequence, vector in rows.items())
    return [(-negative, sequence) for negative, sequence in scored[:k]]


def assert_equal(
    index: VectorIndex, rows: dict[int, Float32], queries: Float32, k: int, among: Any = None
) -> None:
    selected = rows if among is None else {sequence: rows[sequence] for sequence in among.tolist()}
    answers = index.search(queries, k, None if among is None else Allowed.all_of(among))
    found = [list(zip(r.scores.tolist(), r.sequences.tolist(), strict=True)) for r in answers]
    assert found == [brute_force(selected, query, k) for query in queries]


# Components from a coarse grid: equal vectors, equal scores and scores that differ in the last place only. None is
# longer than 1, as the index may expect.
VECTORS = st.lists(
    st.lists(st.sampled_from([-0.25, 0.0, 0.125, 0.25, 0.25 + 2**-25]), min_size=D, max_size=D),
    min_size=1,
    max_size=12,
).map(lambda rows: np.array(rows, np.float32))


def test_any_history_gives_brute_force_s_answer(empty: Any) -> None:
    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.tuples(VECTORS, st.sets(st.integers(1, 60), max_size=8)), min_size=1, max_size=6), st.data()
    )
    def check(history: list[tuple[Float32, set[int]]], data: st.DataObject) -> None:
        index, last = empty(), 0
        rows: dict[int, Float32] = {}
        for vectors, gone in history:
            sequences = np.arange(last + 1, last + 1 + len(vectors), dtype=np.int64)
            last += len(vectors)
            index.apply(np.array(sorted(gone), np.int64), sequences, vectors)
            rows.update(zip(sequences.tolist(), vectors, strict=True))
            rows = {sequence: vector for sequence, vector in rows.items() if sequence not in gone}
        assert len(index) == len(rows)
        queries, k = data.draw(VECTORS), data.draw(st.integers(1, 20))
        assert_equal(index, rows, queries, k)
        among = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set()
        assert_equal(index, rows, queries, k, np.array(sorted(among), np.int64))

    check()


def test_ties_at_the_end_are_cut_by_sequence_however_many_there_are(empty: Any) -> None:
    index = empty()
    same = np.repeat(unit_vectors(1, 1, D), 700, axis=0)
    index.apply(NONE, np.arange(1, 701), same)
    for k in (1, 20, 300):
        (answer,) = index.search(same[:1], k)
        assert answer.sequences.tolist() == list(range(1, k + 1))
        assert len(set(answer.scores.tolist())) == 1


@pytest.mark.parametrize("seed", range(5))
def test_scores_closer_than_the_device_can_tell_are_ranked_rightly(empty: Any, seed: int) -> None:
    index, base = empty(64), unit_vectors(seed, 1, 64)
    rng = np.random.default_rng(seed)
    vectors = (base + rng.normal(0, 3e-8, (900, 64))).astype(np.float32)
    index.apply(NONE, np.arange(1, 901), vectors)
    rows = dict(enumerate(vectors, start=1))
    for k in (1, 5, 40):
        assert_equal(index, rows, base, k)
        assert_equal(index, rows, base, k, np.arange(1, 901, 2))


def accelerated(make_device: Callable[[int], Any]) -> Callable[..., AcceleratedRows]:
    """Stands in for make_index."""
    return lambda d, _device, threads, matrices=(): AcceleratedRows(d, threads, make_device(d), matrices)


class RoundingDevice(DeviceStandIn):
    """Its scores are off by nearly as much as a device's may be."""

    def search(self, queries: Float32, k: int) -> Any:
        scores, positions = self._index.search(queries, self._index.ntotal)
        errors = np.random.default_rng(0).uniform(-0.9, 0.9, scores.shape) * self._index.d * 2.0**-24
        seen = (scores + errors).astype(np.float32)
        order = np.argsort(-seen, axis=1)[:, :k]
        return np.take_along_axis(seen, order, axis=1), np.take_along_axis(positions, order, axis=1)


@pytest.mark.parametrize("k", [1, 2, 3, 40])
def test_an_imprecise_device_hides_no_hit_behind_a_clear_first(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "make_index", accelerated(RoundingDevice))
    index, (base,) = VectorIndex(64, "cpu", 1, few_rows=0), unit_vectors(1, 1, 64)
    vectors = (0.5 * base + np.random.default_rng(1).normal(0, 1e-7, (900, 64))).astype(np.float32)
    vectors[450] = base
    index.apply(NONE, np.arange(1, 901), vectors)
    assert_equal(index, dict(enumerate(vectors, start=1)), base[None], k)


def test_searches_see_all_of_a_change_or_nothing_of_it(empty: Any) -> None:
    index, batch = empty(), 10
    index.apply(NONE, np.arange(1, 3_001), unit_vectors(3, 3_000, D) * np.float32(0.5))
    best = unit_vectors(4, 1, D)
    index.apply(NONE, np.arange(10_000, 10_000 + batch), np.repeat(best, batch, axis=0))
    done, answers = threading.Event(), [0]

    def change() -> None:
        turn = 0
        while turn < 300 or answers[0] < 100:
            turn += 1
            old = np.arange(10_000 + (turn - 1) * batch, 10_000 + turn * batch)
            index.apply(old, old + batch, np.repeat(best, batch, axis=0))
        done.set()

    def search() -> None:
        while not done.is_set():
            for answer in index.search(np.repeat(best, 3, axis=0), batch):
                first = int(answer.sequences[0])
                assert first % batch == 0
                assert answer.sequences.tolist() == list(range(first, first + batch))
            answers[0] += 1

    with ThreadPoolExecutor(3) as pool:
        for call in [pool.submit(change), pool.submit(search), pool.submit(search)]:
            call.result()
    assert len(index) == 3_000 + batch


def test_rows_that_are_replaced_by_those_of_a_segment_give_the_same_answers(empty: Any) -> None:
    """Also where versions go while the segment is written or the rows are prepared, and others come."""
    index, vectors = empty(), unit_vectors(2, 3_000, D)
    rows: dict[int, Float32] = {}
    for turn in range(60):
        sequences = np.arange(turn * 50 + 1, turn * 50 + 51)
        removed = sequences - 200
        half = np.arange(len(sequences)) < 25
        written = written_rows(index, turn)
        index.apply(removed[half], sequences[half], vectors[sequences[half] - 1])
        prepared = index.prepare_replacement(*written) if written else None
        index.apply(removed[~half], sequences[~half], vectors[sequences[~half] - 1])
        if prepared:
            index.replace(prepared)
        rows.update({s: vectors[s - 1] for s in sequences.tolist()})
        rows = {s: v for s, v in rows.items() if s not in set(removed.tolist())}
        if turn % 6 == 5:
            assert_equal(index, rows, unit_vectors(turn, 2, D), 7)
            assert_equal(index, rows, unit_vectors(turn, 2, D), 7, np.array(sorted(rows)[::3]))
            kept = np.array(sorted(rows))
            assert np.array_equal(index.vectors_of(kept), vectors[kept - 1])
    assert len(index) == len(rows) == 200
    assert len(index._rows) < 700


def written_rows(index: VectorIndex, turn: int) -> tuple[int, int, MappedRows | None] | None:
    """Now and then a new segment: of the tail, of some matrices, or of everything."""
    mapped, tail = index.sizes()
    ends = np.cumsum([0, *(size.rows for size in mapped)]).tolist()
    if turn % 5 == 2:
        start, end = ends[-1], ends[-1] + tail.rows
    elif turn % 5 == 4:
        start, end = ends[len(mapped) // 2], ends[-1]
    elif turn % 15 == 10:
        start, end = 0, ends[-1] + tail.rows
    else:
        return None
    positions, sequences = index.live_rows(start, end)
    live = np.ones(len(positions), np.bool_)
    fresh = MappedRows(Path("segment"), sequences, index.vectors_at(positions), live)
    return start, end, fresh if len(sequences) else None


def test_what_is_not_in_the_index_cannot_be_searched_among(empty: Any) -> None:
    index = empty()
    index.apply(NONE, np.arange(1, 6), unit_vectors(1, 5, D))
    index.apply(np.array([2]), NONE, np.empty((0, 0), np.float32))
    for among in ([2], [1, 2], [0], [6], [1, 99]):
        with pytest.raises(VersionNotIndexedError):
            index.search(unit_vectors(2, 1, D), 1, Allowed.all_of(np.array(among)))
    (answer,) = index.search(unit_vectors(2, 1, D), 9, Allowed.all_of(np.array([1, 5])))
    assert sorted(answer.sequences.tolist()) == [1, 5]


class CoarseDevice(DeviceStandIn):
    """Rounds its scores to half precision."""

    def search(self, queries: Float32, k: int) -> Any:
        scores, positions = super().search(queries, k)
        return scores.astype(np.float16).astype(np.float32), positions


class ForgetfulDevice(DeviceStandIn):
    def search(self, queries: Float32, k: int) -> Any:
        scores, positions = super().search(queries, k)
        return scores, np.where(positions == 7, -1, positions)


class OffDevice(DeviceStandIn):
    """Its scores are off by so much."""

    def __init__(self, dimension: int, error: float) -> None:
        super().__init__(dimension)
        self._error = error

    def search(self, queries: Float32, k: int) -> Any:
        scores, positions = super().search(queries, k)
        return scores + np.float32(self._error), positions


def test_a_probe_tells_a_device_that_can_be_trusted_from_others() -> None:
    good = DeviceStandIn(128)
    probe(good, 128)
    assert good._index.ntotal == 0
    with pytest.raises(DeviceUnavailableError, match="off by"):
        probe(CoarseDevice(128), 128)
    with pytest.raises(DeviceUnavailableError, match="some missing"):
        probe(ForgetfulDevice(128), 128)
    probe(OffDevice(128, 0.8 * 2.0**-17), 128)
    with pytest.raises(DeviceUnavailableError, match=r"good to 7\.6e-06; found them off by 9\."):
        probe(OffDevice(128, 1.25 * 2.0**-17), 128)


def test_a_device_does_what_it_can_and_the_host_the_rest() -> None:
    device = DeviceStandIn(D)
    rows, vectors = AcceleratedRows(D, 1, device), unit_vectors(1, 3_000, D)
    host = HostRows(D, 1)
    for part in (rows, host):
        part.add(vectors)
    mask = np.arange(3_000) % 7 == 0
    for k, among, on_device in ((10, None, 1), (2_048, None, 2), (2_049, None, 2), (10, mask, 2)):
        scores, positions = rows.search(vectors[:3], k, among)
        expected_scores, expected = host.search(vectors[:3], k, among)
        assert np.array_equal(positions, expected)
        assert np.array_equal(scores, expected_scores)
        assert device.searches == on_device


class FullDevice(DeviceStandIn):
    """Its memory is full after so many rows, or a search is more than it can do."""

    def __init__(self, dimension: int, rows: int) -> None:
        super().__init__(dimension)
        self._rows = rows

    def add(self, vectors: Float32) -> None:
        if self._index.ntotal + len(vectors) > self._rows:
            raise RuntimeError("Error in void* allocMemory: out of memory\nDetails")
        super().add(vectors)

    def search(self, queries: Float32, k: int) -> Any:
        if k > 100:
            raise RuntimeError("CUDA error 2 out of memory")
        return super().search(queries, k)


@pytest.mark.parametrize("room", [0, 1_000, 10_000], ids=["at once", "after some rows", "in a search"])
def test_a_device_that_fails_costs_no_answer_and_no_change(
    room: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(index_module, "make_index", accelerated(lambda d: FullDevice(d, room)))
    index, vectors = VectorIndex(D, "cpu", 1, few_rows=0), unit_vectors(1, 3_000, D)
    for first in (0, 1_000, 2_000):
        index.apply(NONE, np.arange(first + 1, first + 1_001), vectors[first : first + 1_000])
        for k in (5, 200, 2_500):
            assert_equal(index, dict(enumerate(vectors[: first + 1_000], start=1)), unit_vectors(2, 2, D), k)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the device failed; until they are copied to it anew, " in caplog.text
    index.apply(np.arange(1, 101), NONE, np.empty((0, D), np.float32))
    assert_equal(index, dict(enumerate(vectors[100:], start=101)), unit_vectors(2, 2, D), 5)


def test_mapped_rows_that_a_device_has_no_room_for(caplog: pytest.LogCaptureFixture) -> None:
    vectors = unit_vectors(1, 3_000, D)
    rows, host = AcceleratedRows(D, 1, FullDevice(D, 1_000), [vectors]), HostRows(D, 1, [vectors])
    assert len(caplog.records) == 1
    assert not rows.on_device
    for expected, found in zip(
        host.search(vectors[:3], 10, None), rows.search(vectors[:3], 10, None), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tombstones", [1, 256])
def test_a_few_tombstones_keep_no_search_from_the_device(tombstones: int, monkeypatch: pytest.MonkeyPatch) -> None:
    device = DeviceStandIn(D)
    monkeypatch.setattr(index_module, "make_index", accelerated(lambda _: device))
    index, vectors = VectorIndex(D, "cpu", 1, few_rows=0), unit_vectors(1, 1_000, D)
    index.apply(NONE, np.arange(1, 1_001), vectors)
    index.apply(np.arange(1, tombstones + 1), NONE, np.empty((0, D), np.float32))
    rows = dict(enumerate(vectors[tombstones:], start=tombstones + 1))
    assert_equal(index, rows, unit_vectors(2, 1, D), 5)
    assert device.searches == 1


def test_rows_in_several_matrices_are_searched_as_if_they_were_in_one() -> None:
    vectors = unit_vectors(1, 3_000, D)
    together = HostRows(D, 1)
    together.add(vectors)
    apart = HostRows(D, 1, [vectors[:1_000], vectors[1_000:1_003], vectors[1_003:2_500]])
    apart.add(vectors[2_500:])
    assert len(apart) == 3_000
    for mask in (None, np.arange(3_000) % 7 == 0, np.arange(3_000) < 1_002):
        for k in (1, 50, 400):
            scores, positions = apart.search(vectors[:4], k, mask)
            expected_scores, expected = together.search(vectors[:4], k, mask)
            assert np.array_equal(positions, expected)
            assert np.allclose(scores, expected_scores, atol=D * 2.0**-24)
    wanted = np.array([2_999, 0, 1_001, 1_500])
    assert np.array_equal(apart.take(wanted), vectors[wanted])


def test_rows_that_are_split_over_threads_and_multiplied_are_searched_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faiss_rows, "_MIN_PART_ROWS", 200)
    vectors = unit_vectors(1, 3_000, D)
    matrices = [vectors[:1_000], vectors[1_000:1_003], vectors[1_003:2_500]]
    one = make_index(D, "cpu", 1, matrices)
    several = make_index(D, "cpu", 3, matrices)
    for rows in (one, several):
        rows.add(vectors[2_500:])
    for mask, most in ((None, 3_000), (np.arange(3_000) % 7 == 0, 400), (np.arange(3_000) == 2_999, 1)):
        for k in {1, min(50, most), min(400, most)}:
            together = several.search(vectors[:9], k, mask)
            alone = [one.search(query[None], k, mask) for query in vectors[:9]]
            scores, positions = (np.vstack([found[at] for found in alone]) for at in (0, 1))
            assert np.array_equal(together[1], positions)
            assert np.allclose(together[0], scores, atol=D * 2.0**-24)


@pytest.mark.parametrize("gone", [100, 400])
def test_many_tombstones_that_are_as_good_hide_no_hit(empty: Any, gone: int) -> None:
    index, (best,) = empty(), unit_vectors(3, 1, D)
    vectors = np.vstack([np.repeat(best[None], gone, axis=0), unit_vectors(1, 600, D) * np.float32(0.5)])
    index.apply(NONE, np.arange(1, len(vectors) + 1), vectors)
    index.apply(np.arange(1, gone + 1), NONE, np.empty((0, D), np.float32))
    rows = dict(enumerate(vectors[gone:], start=gone + 1))
    queries = np.vstack([best[None], unit_vectors(5, 4, D)])
    for k in (1, 40):
        assert_equal(index, rows, queries, k)

"""What is special about a store over Milvus: several processes share it, and Milvus may be away."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from sfsc_service.store import errors
from sfsc_service.store.milvus.width_counts import WidthCounts
from sfsc_service.store.protocol import Store
from tests.service.faulty import until
from tests.service.store.agreement import image_of
from tests.service.store.late_proxy import late_proxy
from tests.service.store.making import OLD_SPACE, SPACE, make_item, make_items, unit_vectors
from tests.service.store.milvus_galleries import Galleries, lite_server, need_pymilvus, port_of

PATIENCE_S = 20.0
eventually = partial(until, seconds=PATIENCE_S)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    need_pymilvus()
    with lite_server(tmp_path / "milvus") as found:
        yield found


@pytest.fixture
def pair(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Store]]:
    """Two stores of one gallery, as two processes have them."""
    monkeypatch.setattr("sfsc_service.store.milvus.store._REFRESH_S", 0.1)
    galleries = Galleries(address)
    first, second = galleries.open(tmp_path / "gallery"), galleries.open(tmp_path / "gallery")
    yield first, second
    first.close()
    second.close()


def test_what_one_process_writes_the_other_one_sees(pair: tuple[Store, Store]) -> None:
    first, second = pair
    item = make_item("a", 1, image=True)
    first.upsert([item, make_item("b", 2)])
    eventually(lambda: second.count() == 2)
    assert {hit.id for hit in second.search(unit_vectors(0, 1), 5)[0]} == {"a", "b"}
    assert image_of(second, "a") == item.image
    eventually(lambda: second.composition() == first.composition())
    assert second.delete(["a"]) == [True]
    eventually(lambda: first.get(["a"]) == [None])
    eventually(lambda: first.composition() == {"1.0": 1})


def test_looking_through_goes_on_after_an_error_that_nobody_expected(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    with monkeypatch.context() as patch:
        patch.setattr(WidthCounts, "refresh", lambda _: 1 // 0)
        eventually(lambda: caplog.text.count("ZeroDivisionError") >= 4)
    first.upsert(make_items(5))
    eventually(lambda: second.count() == 5)


def test_an_image_goes_when_no_item_refers_to_it_any_more(
    pair: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.store.milvus.images.GRACE_S", 0.0)
    first, _ = pair
    first.upsert([make_item("a", 1, image=True), make_item("b", 1, image=True), make_item("c", 2, image=True)])
    files = tmp_path / "gallery" / "images"
    first.delete(["a", "c"])
    eventually(lambda: len(list(files.glob("??/??/*"))) == 1 and not list((files / "removed").iterdir()))
    assert image_of(first, "b") == make_item("a", 1, image=True).image


def test_a_successor_s_items_are_found_by_those_who_have_not_adopted_it(pair: tuple[Store, Store]) -> None:
    first, second = pair
    first.adopt("space-c", 16, [SPACE, OLD_SPACE])
    first.upsert([make_item("c", space="space-c")])
    eventually(lambda: [found and found.space for found in second.get(["c"])] == ["space-c"])
    second.upsert([make_item("a")])
    with pytest.raises(errors.FolderMismatchError, match="space-c"):
        second.adopt("space-d", 16, [SPACE, OLD_SPACE])


def test_while_milvus_is_away_calls_fail_at_once_and_afterwards_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_pymilvus()
    monkeypatch.setattr("sfsc_service.store.milvus.client._PROBE_S", 0.5)
    with lite_server(tmp_path / "milvus") as address:
        opened = Galleries(address).open(tmp_path / "gallery")
        opened.upsert(make_items(3))
        assert opened.fault() is None
    try:
        fault = opened.fault()
        assert fault is not None
        assert fault.cause == "unresponsive"
        assert opened.alive, "a restart of the service would not help"
        assert opened.composition() == {"0.25": 1, "0.5": 1, "1.0": 1}
        assert_refused_unasked(opened)
        with lite_server(tmp_path / "milvus", port_of(address)):
            eventually(lambda: opened.fault() is None)
            assert opened.count() == 3
            opened.upsert([make_item("after")])
            assert opened.count() == 4
    finally:
        opened.close()


def assert_refused_unasked(opened: Store) -> None:
    """Calls fail though a Milvus would answer: none of them may wait for it."""
    from pymilvus import MilvusClient

    asked = list[str]()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("query", "search", "upsert", "delete"):
            patch.setattr(MilvusClient, name, lambda *_, name=name, **__: asked.append(name))
        for call in (
            lambda: opened.upsert(make_items(1)),
            lambda: opened.count({"a": 1}),
            lambda: opened.get(["a"]),
            lambda: opened.search(unit_vectors(0, 1), 1),
        ):
            with pytest.raises(errors.StoreFailedError, match="Milvus does not answer"):
                call()
    assert asked == []


def test_a_call_that_is_not_answered_keeps_others_from_asking_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without probes from outside, too."""
    need_pymilvus()
    monkeypatch.setattr("sfsc_service.store.milvus.store._REFRESH_S", 3.0)
    with lite_server(tmp_path / "milvus") as address:
        opened = _impatient(port_of(address), tmp_path)
        opened.upsert(make_items(3))
    try:
        with pytest.raises(errors.StoreUnavailableError):
            opened.upsert(make_items(3))
        assert_refused_unasked(opened)
        with pytest.raises(errors.StoreFailedError, match=r"Milvus at .* does not answer"):
            _impatient(port_of(address), tmp_path)
        with lite_server(tmp_path / "milvus", port_of(address)):
            eventually(lambda: _found(opened))
    finally:
        opened.close()


def test_a_milvus_that_is_late_is_waited_for_within_bounds(tmp_path: Path) -> None:
    """Late by less than a call may take, all is right; by more, calls fail in time, and go on when it is not."""
    need_pymilvus()
    with lite_server(tmp_path / "milvus") as address, late_proxy(port_of(address)) as proxy:
        opened = _impatient(proxy.port, tmp_path, timeout_s=2.0)
        try:
            proxy.delay_s = 0.2
            opened.upsert(make_items(3))
            assert [found and found.id for found in opened.get(["item-00000", "x"])] == ["item-00000", None]
            proxy.delay_s = 5.0
            with ThreadPoolExecutor(8) as pool:
                began = time.monotonic()
                failed = list(pool.map(lambda n: _fails(opened, n), range(32)))
                assert time.monotonic() - began < PATIENCE_S
            assert failed == [True] * 32
            fault = opened.fault()
            assert fault is not None
            assert fault.cause == "unresponsive"
            proxy.delay_s = 0.0
            eventually(lambda: opened.fault() is None)
            assert opened.count() == 3
            opened.upsert([make_item("after")])
            assert opened.count() == 4
        finally:
            proxy.delay_s = 0.0
            opened.close()


def _fails(opened: Store, n: int) -> bool:
    call = (lambda: opened.get(["item-00000"])) if n % 2 else (lambda: opened.search(unit_vectors(0, 1), 1))
    with pytest.raises(errors.StoreFailedError):
        call()
    return True


def _found(opened: Store) -> bool:
    try:
        return None not in opened.get(["item-00000", "item-00002"])
    except errors.StoreFailedError:
        return False


def _impatient(port: int, folder: Path, timeout_s: float = 1.0) -> Store:
    from sfsc_service.store.milvus.address import MilvusAddress
    from sfsc_service.store.milvus.store import MilvusStore

    address = MilvusAddress("127.0.0.1", port, "default")
    return MilvusStore(address, "gallery", folder / "images", SPACE, 16, [OLD_SPACE], timeout_s=timeout_s)


def test_more_hits_than_milvus_can_answer_and_metadata_that_it_cannot_hold_are_refused(
    pair: tuple[Store, Store],
) -> None:
    opened, _ = pair
    with pytest.raises(errors.LimitExceededError, match="16384"):
        opened.search(unit_vectors(0, 1), 16_385)
    many = make_item("many")
    many.metadata.clear()
    many.metadata.update({f"{n:03x}": [1, 2] for n in range(1_300)})
    with pytest.raises(errors.InvalidMetadataError, match="at most 65536 bytes in Milvus"):
        opened.upsert([many])

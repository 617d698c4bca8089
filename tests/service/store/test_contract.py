"""The contract of protocol.py, for every implementation: what changes, what is refused, what is found."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.protocol import (
    MAX_IMAGE_BYTES,
    MAX_ITEMS,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_PAGE,
    MAX_QUERIES,
    EncodedImage,
    Filter,
    Outcome,
    Store,
)
from tests.service.store.agreement import assert_agrees, assert_hits_agree, walk
from tests.service.store.conftest import Breaker, Implementation, Opener
from tests.service.store.making import DIMENSION, OLD_SPACE, make_item, make_items, shifted, unit_vectors
from tests.service.store.oracle import Oracle


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth > 1 else {}


VECTOR = unit_vectors(1, 1)[0]


DOCUMENTS: tuple[Filter | None, ...] = (None, {"$width": "0.5"}, {"seed": 1234})


BAD_ITEMS: dict[str, tuple[dict[str, Any], type[errors.InvalidInputError]]] = {
    "empty id": ({"id": ""}, errors.InvalidIdError),
    "long id": ({"id": "x" * 257}, errors.InvalidIdError),
    "id with NUL": ({"id": "a\x00b"}, errors.InvalidIdError),
    "id with newline": ({"id": "a\nb"}, errors.InvalidIdError),
    "id with C1 control": ({"id": "a\x85b"}, errors.InvalidIdError),
    "id with surrogate": ({"id": "a\ud800"}, errors.InvalidIdError),
    "id that an address cannot hold": ({"id": ".."}, errors.InvalidIdError),
    "id not a string": ({"id": 7}, errors.InvalidIdError),
    "other space": ({"space": "space-z"}, errors.SpaceMismatchError),
    "space not a string": ({"space": None}, errors.SpaceMismatchError),
    "empty width": ({"width": ""}, errors.InvalidWidthError),
    "long width": ({"width": "1" * 17}, errors.InvalidWidthError),
    "width not a string": ({"width": 0.25}, errors.InvalidWidthError),
    "short vector": ({"vector": VECTOR[:-1]}, errors.DimensionMismatchError),
    "long vector": ({"vector": np.append(VECTOR, VECTOR[:1])}, errors.DimensionMismatchError),
    "matrix": ({"vector": VECTOR[None]}, errors.DimensionMismatchError),
    "float64": ({"vector": VECTOR.astype(np.float64)}, errors.InvalidVectorError),
    "big-endian": ({"vector": VECTOR.astype(">f4")}, errors.InvalidVectorError),
    "list": ({"vector": VECTOR.tolist()}, errors.InvalidVectorError),
    "NaN": ({"vector": shifted(float("nan"))}, errors.InvalidVectorError),
    "infinity": ({"vector": shifted(float("inf"))}, errors.InvalidVectorError),
    "zero": ({"vector": shifted(0)}, errors.InvalidVectorError),
    "too long": ({"vector": shifted(1.002)}, errors.InvalidVectorError),
    "too short": ({"vector": shifted(0.998)}, errors.InvalidVectorError),
    "metadata list": ({"metadata": []}, errors.InvalidMetadataError),
    "metadata too large": ({"metadata": {"a": "x" * MAX_METADATA_BYTES}}, errors.InvalidMetadataError),
    "metadata too large in bytes": ({"metadata": {"a": "ä" * 8_200}}, errors.InvalidMetadataError),
    "metadata of many values": ({"metadata": {"a": [1] * MAX_METADATA_BYTES}}, errors.InvalidMetadataError),
    "metadata too deep": ({"metadata": nested(MAX_METADATA_DEPTH + 1)}, errors.InvalidMetadataError),
    "metadata NaN": ({"metadata": {"a": float("nan")}}, errors.InvalidMetadataError),
    "metadata huge integer": ({"metadata": {"a": 2**63}}, errors.InvalidMetadataError),
    "metadata key": ({"metadata": {1: "a"}}, errors.InvalidMetadataError),
    "metadata surrogate": ({"metadata": {"a": "\udc00"}}, errors.InvalidMetadataError),
    "metadata bytes": ({"metadata": {"a": b""}}, errors.InvalidMetadataError),
    "metadata tuple": ({"metadata": {"a": (1,)}}, errors.InvalidMetadataError),
    "empty image": ({"image": EncodedImage(b"", "image/png")}, errors.InvalidImageError),
    "large image": ({"image": EncodedImage(bytes(MAX_IMAGE_BYTES + 1), "image/png")}, errors.InvalidImageError),
    "media type": ({"image": EncodedImage(b"x", "image")}, errors.InvalidImageError),
}


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_a_bad_item_is_refused_by_name_and_nothing_of_its_call_is_kept(store: Store, name: str) -> None:
    change, kind = BAD_ITEMS[name]
    items = [make_item("good", 1), replace(make_item("bad", 2), **change), make_item("good-too", 3)]
    with pytest.raises(kind) as caught:
        store.upsert(items)
    assert caught.value.position == 1
    assert caught.value.parameter in (next(iter(change)), "vector")
    assert store.count() == 0
    assert store.page().items == []
    verdicts = store.check(items)
    assert [type(verdict) for verdict in verdicts] == [type(None), kind, type(None)]


def test_a_refused_media_type_is_quoted_up_to_80_characters(store: Store) -> None:
    (refusal,) = store.check([replace(make_item("a"), image=EncodedImage(b"x", "x" * 100))])
    assert refusal is not None
    assert refusal.found == repr("x" * 80)


def test_what_stands_at_the_limits_is_taken(store: Store) -> None:
    items = [
        replace(make_item("x" * 256), metadata={"a": "x" * (MAX_METADATA_BYTES - 8)}),
        replace(make_item("id with ümläut / ? # %00 and 🙂"), metadata=nested(MAX_METADATA_DEPTH)),
        replace(make_item("numbers"), metadata={"a": [2**63 - 1, -(2**63), 1e308, -0.0, True, None], "": {}}),
        replace(make_item("lengths"), vector=shifted(1.0009), space=OLD_SPACE),
    ]
    assert store.check(items) == [None] * 4
    store.upsert(items)
    for item, found in zip(items, store.get([item.id for item in items]), strict=True):
        assert found is not None
        assert found.metadata == item.metadata
        assert found.vector.tobytes() == item.vector.tobytes()


Call = Callable[[Store], object]


BAD_CALLS: dict[str, tuple[Call, type[errors.InvalidInputError]]] = {
    "too many items": (lambda s: s.upsert([make_item("a")] * (MAX_ITEMS + 1)), errors.LimitExceededError),
    "too many ids": (lambda s: s.get(["a"] * (MAX_ITEMS + 1)), errors.LimitExceededError),
    "bad id to get": (lambda s: s.get(["a", ""]), errors.InvalidIdError),
    "bad id to delete": (lambda s: s.delete(["a\x00"]), errors.InvalidIdError),
    "bad id to patch": (lambda s: s.patch_metadata("", {}), errors.InvalidIdError),
    "bad id of an image": (lambda s: s.image("x" * 300), errors.InvalidIdError),
    "k = 0": (lambda s: s.search(unit_vectors(0, 1), 0), errors.LimitExceededError),
    "k < 0": (lambda s: s.search(unit_vectors(0, 1), -1), errors.LimitExceededError),
    "too many queries": (lambda s: s.search(unit_vectors(0, MAX_QUERIES + 1), 1), errors.LimitExceededError),
    "query of other dimension": (lambda s: s.search(unit_vectors(0, 1, 8), 1), errors.DimensionMismatchError),
    "query of more dimensions": (
        lambda s: s.search(unit_vectors(0, 1, DIMENSION + 1), 1),
        errors.DimensionMismatchError,
    ),
    "query not in a matrix": (lambda s: s.search(VECTOR, 1), errors.DimensionMismatchError),
    "queries of three axes": (
        lambda s: s.search(np.zeros((1, DIMENSION, 1), np.float32), 1),
        errors.DimensionMismatchError,
    ),
    "query NaN": (lambda s: s.search(shifted(float("nan"))[None], 1), errors.InvalidVectorError),
    "query zero": (lambda s: s.search(shifted(0)[None], 1), errors.InvalidVectorError),
    "query float64": (lambda s: s.search(VECTOR[None].astype(float), 1), errors.InvalidVectorError),
    "limit 0": (lambda s: s.page(None, 0), errors.LimitExceededError),
    "limit too large": (lambda s: s.page(None, MAX_PAGE + 1), errors.LimitExceededError),
    "cursor not base64": (lambda s: s.page("%%%"), errors.InvalidCursorError),
    "cursor not text": (lambda s: s.page("//8="), errors.InvalidCursorError),
    "cursor not an id": (lambda s: s.page("AAAA"), errors.InvalidCursorError),
    "cursor not ASCII": (lambda s: s.page("ä\ud800"), errors.InvalidCursorError),
    "filter": (lambda s: s.search(unit_vectors(0, 1), 1, {"$or": []}), errors.InvalidFilterError),
    "filter of a count": (lambda s: s.count({}), errors.InvalidFilterError),
    "filter of a deletion": (lambda s: s.delete_matching({}, 1), errors.InvalidFilterError),
    "limit of a deletion": (lambda s: s.delete_matching({"a": 1}, 10_001), errors.LimitExceededError),
    "filter of a page": (lambda s: s.page(filter={}), errors.InvalidFilterError),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_refused_and_the_store_goes_on(store: Store, name: str) -> None:
    store.upsert([make_item("a")])
    call, kind = BAD_CALLS[name]
    with pytest.raises(kind) as caught:
        call(store)
    assert caught.value.parameter
    assert [hit.id for hit in store.search(unit_vectors(0, 1), 5)[0]] == ["a"]


def test_too_many_hits_altogether_are_refused(store: Store) -> None:
    store.upsert(make_items(1_000))
    with pytest.raises(errors.LimitExceededError, match="1000000"):
        store.search(unit_vectors(0, 1_001), 1_000)
    assert len(store.search(unit_vectors(0, 1_001), 1)) == 1_001


@pytest.mark.parametrize("reaches_disk", [False, True])
def test_a_change_whose_commit_failed_may_have_happened_and_may_be_repeated(
    implementation: Implementation, opener: Opener, tmp_path: Path, reaches_disk: bool
) -> None:
    """Also after a crash every item is as it was or as the call wanted it, and repeating settles which."""
    oracle, items = Oracle(), make_items(5)
    changed = [make_item("new", 1), replace(items[0], metadata={"changed": True})]
    store = opener(tmp_path / "store")
    store.upsert(items)
    oracle.upsert(items)
    with implementation.break_commits(reaches_disk=reaches_disk):
        with pytest.raises(errors.OutcomeUnknownError) as caught:
            store.upsert(changed)
        assert caught.value.code == "outcome_unknown"
    if not reaches_disk:
        assert_agrees(store, oracle)
        assert store.upsert(changed) == oracle.upsert(changed)
        assert_agrees(store, oracle)
    left = implementation.crash(tmp_path / "store")
    store.close()
    store = opener(left)
    found = store.get(["new", items[0].id])
    assert [item and item.metadata for item in found] in ([None, items[0].metadata], [c.metadata for c in changed])
    store.upsert(changed)
    oracle.upsert(changed)
    assert_agrees(store, oracle)
    store.close()


def test_a_deletion_whose_commit_failed_may_have_happened(store: Store, break_commits: Breaker) -> None:
    store.upsert([make_item("a")])
    with break_commits(reaches_disk=False), pytest.raises(errors.OutcomeUnknownError):
        store.delete(["a"])
    assert store.alive
    store.delete(["a"])
    assert store.get(["a"]) == [None]
    assert store.count() == 0


def test_empty_calls_are_no_errors(store: Store) -> None:
    assert store.upsert([]) == []
    assert store.delete([]) == []
    assert store.get([]) == []
    assert store.check([]) == []
    assert store.search(np.empty((0, DIMENSION), np.float32), 3) == []
    assert store.search(unit_vectors(0, 2), 3) == [[], []]
    assert store.page().cursor is None
    assert (store.count(), store.composition(), store.image("a")) == (0, {}, None)


def test_changes_are_seen_by_everything_as_soon_as_they_return(store: Store) -> None:
    oracle = Oracle()
    for items in (make_items(20), make_items(10, 100), [make_item("one", 7, image=True)]):
        assert store.upsert(items) == oracle.upsert(items)
        assert_agrees(store, oracle)
    for ids in (["one", "two"], ["item-00003", "item-00003"], [f"item-{i:05d}" for i in range(30)]):
        assert store.delete(ids) == oracle.delete(ids)
        assert_agrees(store, oracle)


BAD_PATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "patch too deep": ({"a": nested(MAX_METADATA_DEPTH)}, "nested at most 16 deep"),
    "patch not JSON": ({"a": b""}, "nothing but JSON's own types"),
    "result too large": ({"b": "x" * (MAX_METADATA_BYTES - 100)}, "must be at most 16384 bytes"),
}


@pytest.mark.parametrize("name", BAD_PATCHES)
def test_a_bad_patch_is_refused_and_changes_nothing(store: Store, name: str) -> None:
    item = replace(make_item("a", 1), metadata={"a": "x" * 200})
    store.upsert([item])
    patch, said = BAD_PATCHES[name]
    with pytest.raises(errors.InvalidMetadataError, match=said):
        store.patch_metadata("a", patch)
    (found,) = store.get(["a"])
    assert found is not None
    assert found.metadata == item.metadata


def test_a_patch_changes_the_metadata_alone(store: Store) -> None:
    oracle, items = Oracle(), [make_item(name, n, image=True) for n, name in enumerate("abc")]
    store.upsert(items)
    oracle.upsert(items)
    (before,) = store.get(["b"])
    assert before is not None
    patch = {"seed": None, "group": "g9", "new": [1, {"n": None}]}
    patched = store.patch_metadata("b", patch)
    oracle.patch_metadata("b", patch)
    assert_agrees(store, oracle)
    (after,) = store.get(["b"])
    for one in (after, patched):
        assert one is not None
        assert (one.created, one.reason, one.image_digest) == (before.created, before.reason, before.image_digest)
        assert one.metadata == oracle.kept["b"].item.metadata
    assert store.patch_metadata("nobody", patch) is None


def test_patches_beside_each_other_lose_nothing(store: Store) -> None:
    store.upsert([make_item("a", 1, image=True)])

    def patch(thread: int) -> None:
        for n in range(10):
            assert store.patch_metadata("a", {f"{thread}-{n}": n, "last": thread}) is not None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(patch, range(4)))
    (found,) = store.get(["a"])
    assert found is not None
    assert found.metadata.items() >= {f"{thread}-{n}": n for thread in range(4) for n in range(10)}.items()


def test_one_id_twice_in_a_call_leaves_the_last_one(store: Store) -> None:
    items = [
        make_item("a", 1, image=True),
        make_item("b", 2),
        make_item("a", 3, image=True),
        make_item("a", 4),
    ]
    oracle = Oracle()
    assert store.upsert(items) == oracle.upsert(items)
    assert oracle.upsert(items)[0] is Outcome.REPLACED
    assert store.upsert(items) == [Outcome.REPLACED] * 4
    assert_agrees(store, oracle)


def test_large_galleries_answer_as_brute_force_does(store: Store) -> None:
    oracle = Oracle()
    for first in range(0, 3_000, 1_000):
        items = make_items(1_000, first, prefix=f"p{first}")
        store.upsert(items)
        oracle.upsert(items)
    gone = [f"p0-{i:05d}" for i in range(0, 1_000, 3)]
    store.delete(gone)
    oracle.delete(gone)
    queries = unit_vectors(77, 3)
    for document in DOCUMENTS:
        for k in (1, 10, 400, 5_000):
            for query, hits in zip(queries, store.search(queries, k, document), strict=True):
                assert_hits_agree(store, hits, oracle.search(query, k, document))


def test_pages_hold_every_lasting_item_once_while_others_change(store: Store) -> None:
    store.upsert(make_items(30))
    lasting = {f"item-{i:05d}" for i in range(0, 30, 2)}
    seen: list[str] = []
    cursor, turn = None, 0
    while True:
        page = store.page(cursor, 4)
        seen += [found.id for found in page.items]
        store.upsert(make_items(30, 1_000 * turn)[::2])
        store.delete([f"item-{turn * 2 + 1:05d}", f"item-{29 - turn * 2:05d}"])
        store.upsert([make_item(f"item-{turn:05d}x")])
        cursor, turn = page.cursor, turn + 1
        if cursor is None:
            break
    assert lasting <= set(seen)
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen)


def test_pages_ascend_by_code_point(store: Store) -> None:
    ids = ["Z", "a", "ä", "z", "é", "\uffee", "🙂", "A b", "0"]
    store.upsert([make_item(identifier) for identifier in ids])
    assert [found.id for found in walk(store, 2)] == sorted(ids)


def test_what_the_caller_does_to_its_arrays_afterwards_changes_nothing(store: Store) -> None:
    item = make_item("a")
    wanted = item.vector.copy()
    store.upsert([item])
    item.vector[:] = 0
    item.metadata["seed"] = "other"
    (found,) = store.get(["a"])
    assert found is not None
    assert np.array_equal(found.vector, wanted)
    assert found.metadata["seed"] == 0
    assert store.search(wanted[None], 1)[0][0].id == "a"

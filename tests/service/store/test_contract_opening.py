"""The contract of protocol.py on opening and closing, and on the spaces that a gallery holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sfsc_service.store import errors
from sfsc_service.store.protocol import (
    Item,
    Store,
)
from tests.service.store.agreement import assert_agrees
from tests.service.store.conftest import Implementation, Opener
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, make_item, unit_vectors
from tests.service.store.oracle import Oracle


def test_spaces_stay_as_they_were_where_adopting_fails(store: Store, implementation: Implementation) -> None:
    before = store.spaces
    with implementation.break_adopting(), pytest.raises(errors.StoreError):
        store.adopt("space-c", DIMENSION, [SPACE, OLD_SPACE])
    assert store.spaces == before
    store.upsert([make_item("a")])
    assert store.spaces == before, "the next commit must not bring them in"
    with pytest.raises(errors.SpaceMismatchError):
        store.upsert([make_item("c", space="space-c")])


def test_closing_and_opening_again_finds_everything(opener: Opener, tmp_path: Path) -> None:
    oracle = Oracle()
    for turn in range(4):
        store = opener(tmp_path / "store")
        assert_agrees(store, oracle)
        items: list[Item] = [make_item(f"i{i}", 10 * turn + i, image=i % 2 == 0) for i in range(turn, turn + 12)]
        assert store.upsert(items) == oracle.upsert(items)
        assert store.delete([f"i{turn}"]) == oracle.delete([f"i{turn}"])
        store.close()


@pytest.mark.parametrize(
    ("space", "dimension", "compatible_with"),
    [("space-z", DIMENSION, [SPACE]), (OLD_SPACE, DIMENSION, []), (SPACE, DIMENSION + 1, [OLD_SPACE])],
)
def test_a_gallery_is_not_opened_for_what_cannot_share_it(
    store: Store, opener: Opener, tmp_path: Path, space: str, dimension: int, compatible_with: list[str]
) -> None:
    """The first lacks the space of an item, the second the space that the gallery was made for."""
    store.upsert([make_item("b", space=OLD_SPACE)])
    store.close()
    with pytest.raises(errors.FolderMismatchError):
        opener(tmp_path / "store", space=space, dimension=dimension, compatible_with=compatible_with)
    again = opener(tmp_path / "store", space="space-c", compatible_with=[SPACE, OLD_SPACE])
    assert again.count() == 1
    again.close()


def test_a_closed_store_says_so_and_closes_again_quietly(store: Store) -> None:
    store.upsert([make_item("a")])
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.upsert([make_item("a")]),
        lambda: store.check([]),
        lambda: store.delete(["a"]),
        lambda: store.get(["a"]),
        lambda: store.page(),
        lambda: store.search(unit_vectors(0, 1), 1),
        lambda: store.count(),
        lambda: store.count({"a": 1}),
        lambda: store.delete_matching({"a": 1}, 1),
        lambda: store.composition(),
        lambda: store.image("a"),
    ]
    for call in calls:
        with pytest.raises(errors.StoreClosedError):
            call()
    assert not store.alive


def test_dimension_and_spaces_are_told(store: Store) -> None:
    assert store.dimension == DIMENSION
    assert store.spaces == {"space-a", OLD_SPACE}
    assert store.alive


def test_a_successors_space_is_adopted_beside_what_is_here(store: Store) -> None:
    store.upsert([make_item("a"), make_item("b", space=OLD_SPACE)])
    store.adopt("space-c", DIMENSION, [SPACE, OLD_SPACE])
    assert store.spaces == {"space-c", SPACE, OLD_SPACE}
    store.upsert([make_item("c", space="space-c"), make_item("late", space=SPACE)])
    found = store.get(["a", "b", "c", "late"])
    assert [found.space for found in found if found] == [SPACE, OLD_SPACE, "space-c", SPACE]


@pytest.mark.parametrize(
    ("space", "dimension", "compatible_with"),
    [
        ("space-c", DIMENSION, [SPACE]),  # the gallery has vectors of OLD_SPACE as well
        ("space-c", DIMENSION, [OLD_SPACE]),  # new vectors so far are of SPACE
        (OLD_SPACE, DIMENSION, []),
        ("space-c", DIMENSION + 1, [SPACE, OLD_SPACE]),
    ],
)
def test_what_cannot_share_the_gallery_is_not_adopted(
    store: Store, space: str, dimension: int, compatible_with: list[str]
) -> None:
    store.upsert([make_item("b", space=OLD_SPACE)])
    before = store.spaces
    with pytest.raises(errors.OpenRefusedError):
        store.adopt(space, dimension, compatible_with)
    assert store.spaces == before
    store.upsert([make_item("a"), make_item("c", space=OLD_SPACE)])
    with pytest.raises(errors.SpaceMismatchError):
        store.upsert([make_item("d", space="space-c")])


def test_after_adopting_a_space_that_is_left_out_is_refused(store: Store) -> None:
    store.adopt(SPACE, DIMENSION, [])
    with pytest.raises(errors.SpaceMismatchError):
        store.upsert([make_item("b", space=OLD_SPACE)])
    store.upsert([make_item("a")])


def test_adopting_forgets_a_space_that_no_item_has_any_more(store: Store) -> None:
    store.upsert([make_item("b", space=OLD_SPACE)])
    with pytest.raises(errors.OpenRefusedError):
        store.adopt(SPACE, DIMENSION, [])
    store.upsert([make_item("b")])
    store.adopt(SPACE, DIMENSION, [])
    assert store.spaces == {SPACE}


def test_a_gallery_that_adopted_opens_with_the_successor_only(
    store: Store, opener: Opener, tmp_path: Path
) -> None:
    store.adopt("space-c", DIMENSION, [SPACE, OLD_SPACE])
    store.upsert([make_item("c", space="space-c")])
    store.close()
    with pytest.raises(errors.FolderMismatchError, match="space-c"):
        opener(tmp_path / "store")

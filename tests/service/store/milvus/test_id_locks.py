"""Changes of the same item follow each other; those of other items do not wait for them."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

from sfsc_service.store.milvus.id_locks import IdLocks

WAIT_S = 20.0


def test_only_changes_of_the_same_item_wait_for_each_other() -> None:
    locks, order = IdLocks(), list[str]()

    def change(name: str, ids: list[str]) -> None:
        with locks.held(ids):
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with locks.held(["a", "b"]):
            same = pool.submit(change, "same", ["c", "b", "b"])
            pool.submit(change, "other", ["c"]).result(WAIT_S)
            order.append("first")
        same.result(WAIT_S)
    assert order == ["other", "first", "same"]


def test_a_change_that_fails_lets_the_next_one_go_on() -> None:
    locks = IdLocks()
    for _ in range(2):
        with contextlib.suppress(ValueError), locks.held(["a"]):
            raise ValueError

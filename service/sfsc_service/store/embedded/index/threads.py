"""One search in several threads. Each uses faiss by itself: faiss would divide queries only, never rows."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import faiss

__all__ = ["in_threads"]

Part = TypeVar("Part")
Answer = TypeVar("Answer")


def in_threads(threads: int, call: Callable[[Part], Answer], parts: Sequence[Part]) -> list[Answer]:
    """Call for every part, in so many threads; the answers are in the order of the parts.

    The threads end with the call: so they have the niceness of the thread that calls, and nothing is to be closed.
    """
    if threads < 2 or len(parts) < 2:
        _use_one_thread()
        return [call(part) for part in parts]
    with ThreadPoolExecutor(min(threads, len(parts)), initializer=_use_one_thread) as pool:
        return list(pool.map(call, parts))


def _use_one_thread() -> None:
    """Keep faiss from starting threads of its own; it has this setting for each thread that calls it."""
    faiss.omp_set_num_threads(1)

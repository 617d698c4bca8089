"""Memory that was freed, given back to the system.

glibc keeps what its arenas have freed, and raises by itself the size from which it asks the system for each block
alone. Large images, decoded in many threads, then leave more of it behind every minute, and a process that holds
nothing looks as if it leaked.
"""

import ctypes
import platform
from collections.abc import Callable

__all__ = ["return_large_blocks", "trim_heap"]

MMAP_THRESHOLD = -3  # malloc.h
LARGE_BYTES = 2**20


def return_large_blocks() -> bool:
    """Have blocks of a megabyte and more, images above all, go back as soon as they are freed.

    To be called before there is much of a heap. Returns whether the C library took it.
    """
    set_option = _of_glibc("mallopt")
    return set_option is not None and bool(set_option(MMAP_THRESHOLD, LARGE_BYTES))


def trim_heap() -> bool:
    """Trim the C library's heap; whether it could give anything back. Takes milliseconds, without the GIL."""
    trim = _of_glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def _of_glibc(name: str) -> Callable[..., int] | None:
    """None where the C library is another one, whose functions of the same name may mean something else."""
    if platform.libc_ver()[0] != "glibc":
        return None
    function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    return function

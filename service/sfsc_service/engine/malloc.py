"""Return freed memory to the operating system.

glibc's arenas keep the memory that was freed in them, and glibc raises by itself the size from which a block gets
a mapping of its own. Large images, decoded in many threads, then leave more freed memory behind every minute, and
the process looks as if it leaked.
"""

import ctypes
import platform
from collections.abc import Callable

__all__ = ["limit_arenas", "return_large_blocks", "trim_heap"]

MMAP_THRESHOLD, ARENA_MAX = -3, -8  # malloc.h
ARENAS = 2
LARGE_BYTES = 2**20


def return_large_blocks() -> bool:
    """Make blocks of a megabyte and more, images above all, return to the system as soon as they are freed.

    To be called before the heap has grown. Returns whether the C library accepted it.
    """
    set_option = _of_glibc("mallopt")
    return set_option is not None and bool(set_option(MMAP_THRESHOLD, LARGE_BYTES))


def limit_arenas() -> bool:
    """Let all threads allocate from two arenas, where glibc makes up to eight per core.

    Every arena keeps the most that was ever in use in it at once, and those moments are different ones. To be
    called before there are threads. Returns whether the C library accepted it.
    """
    set_option = _of_glibc("mallopt")
    return set_option is not None and bool(set_option(ARENA_MAX, ARENAS))


def trim_heap() -> bool:
    """Trim the C library's heap; returns whether memory was returned. Takes milliseconds, without the GIL."""
    trim = _of_glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None with another C library, whose function of that name may do something else."""
    if platform.libc_ver()[0] != "glibc":
        return None
    function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    return function

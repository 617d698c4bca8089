"""Memory that was freed, given back to the system.

glibc keeps what its arenas have freed. Large pictures, decoded in many threads, leave more of it behind every
minute, and a process that holds nothing looks as if it leaked.
"""

import ctypes
from collections.abc import Callable

__all__ = ["give_back"]


def give_back() -> bool:
    """Trim the C library's heap; whether it could give anything back. Takes milliseconds, without the GIL."""
    trim = _malloc_trim()
    return trim is not None and bool(trim(0))


def _malloc_trim() -> Callable[[int], int] | None:
    """None where the C library is another one."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim

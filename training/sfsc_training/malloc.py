"""Keep freed memory instead of returning it to the operating system.

A step frees its activations and the next one asks for the same sizes again. glibc gives blocks of 32 MiB and more
a mapping of their own, whose pages the kernel takes back and clears each time.
"""

import ctypes
import platform

__all__ = ["keep_large_blocks"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1  # bytes at the end of the heap


def keep_large_blocks() -> bool:
    """Let freed blocks of any size stay with this process; returns whether the C library accepted it."""
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    return bool(set_option(_MMAP_MAX, 0)) and bool(set_option(_TRIM_THRESHOLD, _NEVER))

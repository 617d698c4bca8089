"""Threads that compute give way to the event loop.

Where every core is busy, a request is read, and an answer sent, sooner than the next batch is computed: the loop
needs little, and what it brings makes larger batches. Only among threads that want the same core at the same time.
"""

import contextlib
import os
import sys
import threading

__all__ = ["lower_priority"]


def lower_priority(nice: int) -> None:
    """Add so much to the calling thread's niceness, up to 19, for its whole life. Not on Linux: nothing."""
    if nice and sys.platform == "linux":  # elsewhere niceness belongs to the whole process
        own = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that forbids it is no reason not to serve
            os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + nice))

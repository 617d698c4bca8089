"""Raise the niceness of compute threads.

When every core is busy, reading a request or sending an answer takes precedence over computing the next batch: the
event loop needs little time, and the requests that it reads make larger batches. Niceness matters only between
threads that want the same core at the same time.
"""

import contextlib
import os
import sys
import threading

__all__ = ["lower_priority"]


def lower_priority(nice: int) -> None:
    """Add so much to the calling thread's niceness, up to 19, for the rest of its life; on Linux only."""
    if nice and sys.platform == "linux":  # elsewhere niceness belongs to the whole process
        own = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that forbids it is no reason not to serve
            os.setpriority(os.PRIO_PROCESS, own, min(19, os.getpriority(os.PRIO_PROCESS, own) + nice))

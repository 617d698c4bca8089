"""The machine that a measurement was made on."""

import platform
from pathlib import Path

__all__ = ["processor"]


def processor() -> str:
    """The processor's name: on Linux it stands in /proc; platform.processor() is empty on most distributions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor()) or platform.machine()

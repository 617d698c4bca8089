"""`sfsc`, with a gauge of its event loop: python benchmarks/loop_lag.py FILE serve …

FILE holds two float64: the longest time in seconds by which the loop was late since somebody wrote 0 into it, and
for how long at most the process computed meanwhile. Where other programs want the same cores, the loop may be late
although it has nothing to do; it is stopped by the service's own work for no longer than that computes.
"""

import asyncio
import mmap
import struct
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from sfsc_service.cli.main import main

__all__ = ["GAUGE"]

GAUGE = struct.Struct("dd")
PERIOD_S = 0.005


async def watch(gauge: mmap.mmap) -> None:
    """Note by how much the loop is late, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due, computed = loop.time() + PERIOD_S, time.process_time()
        await asyncio.sleep(PERIOD_S)
        late, own = loop.time() - due, time.process_time() - computed
        longest, longest_own = GAUGE.unpack_from(gauge)
        if late > longest or min(late, own) > longest_own:
            GAUGE.pack_into(gauge, 0, max(late, longest), max(min(late, own), longest_own))


def run(path: Path, words: list[str]) -> None:
    """Run `sfsc` with these words."""
    with path.open("r+b") as file:
        gauge = mmap.mmap(file.fileno(), GAUGE.size)
    startup = uvicorn.Server.startup
    watching: set[asyncio.Task[None]] = set()

    async def watched(self: uvicorn.Server, *arguments: Any, **named: Any) -> None:
        watching.add(asyncio.get_running_loop().create_task(watch(gauge)))
        await startup(self, *arguments, **named)

    uvicorn.Server.startup = watched  # type: ignore[method-assign]
    sys.argv = ["sfsc", *words]
    main()


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])

"""The least that an image costs: decode, preprocess and the network, with no server around them.

    python benchmarks/floor.py BUNDLE WIDTH BATCH SECONDS IMAGE…     # prints CPU milliseconds per image

One process computes with one thread, as the service does for one batch. As many processes run side by side as the
service has workers, so that the cores are equally busy.
"""

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import mean

import numpy as np

from sfsc_bundle.folder import open_bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner

__all__ = ["floor_ms"]


def floor_ms(
    bundle: Path, width: str, batch: float, seconds: float, paths: Sequence[Path], processes: int
) -> float:
    """CPU milliseconds per image in batches of that mean size, mean over processes side by side."""
    words = [sys.executable, __file__, bundle, width, batch, seconds, *paths]
    running = [
        subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return mean(float(process.communicate()[0]) for process in running)


def main(bundle: Path, width: str, batch: float, seconds: float, paths: Sequence[Path]) -> None:
    """Work through the images in turn; batches of the two whole sizes around the mean, mixed to meet it."""
    opened = open_bundle(bundle)
    runner, preprocessing = make_runner(opened, width), opened.manifest.preprocessing
    files = cycle([path.read_bytes() for path in paths])

    def run(size: int) -> None:
        runner(np.stack([preprocess(data, preprocessing) for data in islice(files, size)]))

    small, large = math.floor(batch), math.ceil(batch)
    for size in (small, large):
        run(size)
    done, batches = 0, 0
    end, began = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        batches += 1
        size = small if done + small >= batch * batches else large
        run(size)
        done += size
    print(1000 * (time.process_time() - began) / done)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        float(sys.argv[3]),
        float(sys.argv[4]),
        [Path(name) for name in sys.argv[5:]],
    )

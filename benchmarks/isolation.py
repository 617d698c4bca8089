"""The p99 of single narrow requests while bulk calls at full width saturate the server.

    python benchmarks/isolation.py            # an untrained ResNet-18 at 128 px
    python benchmarks/isolation.py --quick    # shorter and less often, writes nothing

Four keep-alive clients of wrk ask for width 0.25, one image a call; four others send calls of 16 images at
width 1.0, more than the server can compute. A narrow request may find every worker busy with a wide batch, so its
p99 may grow by the time of one: the figure is p99 beside bulk calls ÷ (p99 alone + a wide batch's mean time).
Medians.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bodies import Bodies, draw
from live_service import launched, profiled
from load import finish, post, start
from result_file import Figure, write_result
from untrained import untrained_bundle

NARROW, WIDE = "0.25", "1.0"
CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """Milliseconds; `wide_images`: images a second of the bulk calls meanwhile."""

    alone_p99_ms: float
    beside_p99_ms: float
    batch_ms: float
    batch_images: float
    wide_images: float

    @property
    def ratio(self) -> float:
        """p99 beside bulk calls ÷ what it may be: p99 alone + one wide batch."""
        return self.beside_p99_ms / (self.alone_p99_ms + self.batch_ms)


def main() -> None:
    """Measure and write benchmarks/results/isolation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("runs/untrained-resnet18"))
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, of which the median is taken")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    arguments = parser.parse_args()
    bundle = untrained_bundle(arguments.bundle).folder
    repeats, seconds = (1, 4) if arguments.quick else (arguments.repeats, 6)
    with tempfile.TemporaryDirectory() as name:
        bodies = draw(Path(name))
        with launched(bundle, Path(name), SFSC_DATA=profiled(bundle, Path(name))) as (client, _):
            trials = [trial(client, bodies, seconds) for _ in range(repeats)]
    figures = figured(trials)
    for figure in figures:
        print(f"{figure.name:60} {figure.value:9.3f} {figure.unit:10} {figure.goal or ''} {figure.met}")
    if not arguments.quick:
        data = {"repeats": repeats, "seconds": seconds, "trials": [asdict(one) for one in trials]}
        print(write_result("isolation", figures, data, seed=0))


def trial(client: httpx.Client, bodies: dict[str, Bodies], seconds: int) -> Trial:
    """Narrow requests alone, then the same beside bulk calls that begin before them and end after them."""
    narrow, wide = (str(client.base_url.join(f"/embed?width={width}")) for width in (NARROW, WIDE))
    single, bulk = bodies["single"], bodies["bulk, JSON"]
    alone = post(narrow, single.paths, seconds, clients=CLIENTS)
    before = computed(client)
    saturating = start(wide, bulk.paths, seconds + 2, kind=bulk.kind, clients=CLIENTS)
    post(narrow, single.paths, 1, clients=CLIENTS)
    beside = post(narrow, single.paths, seconds, clients=CLIENTS)
    finish(saturating)
    batches, images, took_s = (now - then for now, then in zip(computed(client), before, strict=True))
    return Trial(alone.p99_ms, beside.p99_ms, 1000 * took_s / batches, images / batches, images / (seconds + 2))


def computed(client: httpx.Client) -> tuple[float, float, float]:
    """Batches at full width so far, images in them, and seconds that they took."""
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.labels.get("width") == WIDE
    }
    names = ("sfsc_batch_images_count", "sfsc_batch_images_sum", "sfsc_compute_seconds_sum")
    batches, images, seconds = (found[name] for name in names)
    return batches, images, seconds


def figured(trials: Sequence[Trial]) -> list[Figure]:
    """Medians."""
    return [
        Figure("p99 beside bulk ÷ (p99 alone + a wide batch)", median(one.ratio for one in trials), "×", "<= 1.5"),
        Figure("p99 alone", median(one.alone_p99_ms for one in trials), "ms"),
        Figure("p99 beside bulk calls", median(one.beside_p99_ms for one in trials), "ms"),
        Figure("a wide batch", median(one.batch_ms for one in trials), "ms"),
        Figure("images in a wide batch", median(one.batch_images for one in trials), "images"),
        Figure("bulk calls meanwhile", median(one.wide_images for one in trials), "images/s"),
    ]


if __name__ == "__main__":
    main()

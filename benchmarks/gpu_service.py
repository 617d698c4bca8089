"""The service side of gpu.py: embeddings a second over HTTP, the device beside the CPU of the same machine.

Single images to `/embed` from keep-alive clients that each send the next one as soon as they have an answer, and
calls of `/items` with 64 images each; the same JPEG files of the demo gallery for all. Beside each rate stands
what tells its limit: CPU per image (one core is that of the event loop, which also decodes small images), images
in a batch, and the share of the time in which the workers computed.
"""

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx
from prometheus_client.parser import text_string_to_metric_families

from live_service import launched
from open_loop import saturate
from process_cost import cpu_ms
from result_file import Figure
from sfsc_service.engine.threads import split_threads
from sfsc_service.settings import Settings

__all__ = ["service"]

IMAGES = Path(__file__).parents[1] / "models" / "demo" / "gallery"
WIDTHS = ("0.25", "1.0")
CLIENTS = 64
BULK = 64
BULK_CALLERS = 4
BULK_GOAL = 10_000
LARGE = {"SFSC_MAX_BATCH": "128"}


@dataclass(frozen=True, slots=True)
class Case:
    """One load: its name, how many images a second it gets at a width, and the goal of a device."""

    name: str
    per_second: Callable[[str], float]
    goal: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the service says that it has done; times in seconds."""

    cpu_s: float
    images: float
    batches: float
    compute_s: float


def service(bundle: Path, device: str, seconds: float) -> list[Figure]:
    """All figures of the device and of the CPU; of the CPU alone where that is the device."""
    if device == "cpu":
        return [figure for _, figure in served(bundle, "cpu", {}, seconds)]
    figures: list[Figure] = []
    beside: dict[str, float] = {}
    for name, settings in (
        ("cpu", {}),
        (device, {"SFSC_DEVICE": device}),
        (f"{device}, batches of 128", {"SFSC_DEVICE": device, **LARGE}),
        (
            f"{device}, batches of 128, CUDA graphs, half",
            {"SFSC_DEVICE": device, "SFSC_CUDA_GRAPHS": "true", "SFSC_HALF": "true", **LARGE},
        ),
    ):
        for case, figure in served(bundle, name, settings, seconds):
            figures.append(figure)
            if case is None:
                continue
            if name == "cpu":
                beside[case] = figure.value
            else:
                ratio = figure.value / beside[case]
                figures.append(Figure(f"{figure.name} ÷ this machine's CPU", ratio, "×", ">= 1"))
    return figures


def served(
    bundle: Path, name: str, settings: Mapping[str, str], seconds: float
) -> Iterator[tuple[str | None, Figure]]:
    """The figures of one service; with a rate, the case that it is of."""
    files = sorted(IMAGES.glob("*.jpg"))[:BULK]
    device = "cuda" if settings.get("SFSC_DEVICE") == "cuda" else "cpu"
    workers, _ = split_threads(Settings().thread_count, device)
    with (
        tempfile.TemporaryDirectory() as folder,
        launched(bundle, Path(folder), SFSC_LOG_LEVEL="warning", **settings) as (client, process),
    ):
        port = client.base_url.port
        assert port is not None
        cases = (
            Case("single", lambda width: saturate(port, f"/embed?width={width}", CLIENTS, seconds, files), None),
            Case(
                "bulk",
                lambda width: bulk(str(client.base_url), width, files, seconds),
                f">= {BULK_GOAL}" if device == "cuda" else None,
            ),
        )
        for width in WIDTHS:
            for case in cases:
                case.per_second(width)  # the costs of these batches are known from then on
                before, began = seen(client, process), monotonic()
                rate = case.per_second(width)
                took, after = monotonic() - began, seen(client, process)
                what = f"{name}: width {width}, {case.name}"
                yield f"{width}, {case.name}", Figure(what, rate, "images/s", case.goal)
                images = max(1.0, after.images - before.images)
                yield None, Figure(f"{what}: CPU", 1000 * (after.cpu_s - before.cpu_s) / images, "ms/image")
                batches = max(1.0, after.batches - before.batches)
                yield None, Figure(f"{what}: mean batch", images / batches, "images")
                share = (after.compute_s - before.compute_s) / (workers * took)
                yield None, Figure(f"{what}: time in which workers computed", 100 * share, "%")


def bulk(url: str, width: str, files: Sequence[Path], seconds: float) -> float:
    """Images a second in calls of `/items` with all files each, several at a time, stored again and again."""
    images = [base64.b64encode(file.read_bytes()).decode() for file in files]
    end = monotonic() + seconds

    def call_again(caller: int) -> int:
        lines = [json.dumps({"id": f"{caller}-{n}", "image": image}) for n, image in enumerate(images)]
        body, kind, done = "\n".join(lines).encode(), {"Content-Type": "application/x-ndjson"}, 0
        with httpx.Client(base_url=url, timeout=60) as client:
            while not done or monotonic() < end:
                answer = client.post("/items", params={"width": width}, content=body, headers=kind)
                done += answer.raise_for_status().json()["stored"]
        return done

    began = monotonic()
    with ThreadPoolExecutor(BULK_CALLERS) as callers:
        done = sum(callers.map(call_again, range(BULK_CALLERS)))
    return done / (monotonic() - began)


def seen(client: httpx.Client, process: int) -> Seen:
    """Read the service's own metrics."""
    found = dict.fromkeys(("sfsc_batch_images_sum", "sfsc_batch_images_count", "sfsc_compute_seconds_sum"), 0.0)
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name] += sample.value
    return Seen(cpu_ms(process) / 1000, *found.values())

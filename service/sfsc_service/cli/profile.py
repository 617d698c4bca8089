"""`sfsc profile`: measure every width at every batch size, show it, and keep it for the service's next start."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sfsc_service.engine.cost_file import CostFile, fingerprint
from sfsc_service.engine.costs import BUCKETS
from sfsc_service.engine.networks import Networks, check_device, open_networks
from sfsc_service.engine.threads import split_threads
from sfsc_service.settings import Settings

__all__ = ["profile"]

RUNS = 30
BUDGET_S = 1.0
"""For one width at one batch size."""


def profile(settings: Settings, console: Console) -> None:
    """Measure the bundle of the settings on this machine, which should have nothing else to do.

    Raises:
        BundleError, DeviceError, Problem: as `open_networks`.
    """
    check_device(settings.device)
    workers, inside = split_threads(settings.thread_count, settings.device)
    networks = open_networks(settings.bundle, settings.floor_width, settings.device, inside)
    _measure(networks, settings.max_batch, console)
    file = CostFile(settings.data, fingerprint(networks.manifest, settings.device, inside))
    file.write(networks.costs.table())
    console.print(_table(networks))
    console.print(
        f"one batch at a time on {inside} of {settings.thread_count} threads; the service: {workers} at once",
        highlight=False,
    )
    console.print(f"written to {file.path}", markup=False, highlight=False, soft_wrap=True)


def _measure(networks: Networks, max_batch: int, console: Console) -> None:
    cells = [(width, images) for images in BUCKETS if images <= max_batch for width in networks.manifest.widths]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    said = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=len(cells))
        for done, (width, images) in enumerate(cells):
            progress.update(task, description=f"width {width}, {images} images")
            networks.measure(width, images, BUDGET_S, RUNS)
            progress.advance(task)
            if not console.is_terminal and time.monotonic() - said > 10.0:
                said = time.monotonic()
                console.print(f"measured {done + 1} of {len(cells)}", highlight=False)


def _table(networks: Networks) -> Table:
    table = Table("width", "images", "median ms", "p95 ms", "images/s", title=networks.manifest.name)
    for width, sizes in networks.costs.table().items():
        for images, found in sizes.items():
            table.add_row(
                width,
                str(images),
                f"{found.median_ms:.2f}",
                f"{found.p95_ms:.2f}",
                f"{1000 * images / found.median_ms:.0f}",
                end_section=images == max(sizes),
            )
    return table

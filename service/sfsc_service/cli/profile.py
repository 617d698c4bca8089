"""`sfsc profile`: measure every width at every batch size, print it, and keep it for the service's next start."""

from pathlib import Path

from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.table import Table

from sfsc_bundle.progress import bar
from sfsc_service.cli.bundle import check_bundle
from sfsc_service.cli.logs import log_to_stderr
from sfsc_service.engine.cost_file import CostFile, fingerprint
from sfsc_service.engine.costs import BUCKETS
from sfsc_service.engine.networks import Networks, check_device, open_networks
from sfsc_service.engine.threads import split_threads
from sfsc_service.errors import Problem, StartError
from sfsc_service.settings import Settings, setting

__all__ = ["Profile"]

RUNS = 30
BUDGET_S = 1.0
"""For one width at one batch size."""


class Profile(Settings):
    """Measure what every width costs on this machine, for the service's next start.

    The machine should have nothing else to do meanwhile.

    example: sfsc profile models/demo --data data
    """

    bundle: CliPositionalArg[Path] = setting(
        Path("models/demo"), "folder", "the bundle to measure; also SFSC_BUNDLE"
    )

    def run(self) -> None:
        """Measure, write `costs.json` in the data folder, print the table.

        Raises:
            BundleError, DeviceError: as `open_networks`.
            StartError: no bundle was named and there is no default one, the floor width is unknown, or the data
                folder cannot be written.
        """
        check_bundle(self)
        log_to_stderr(self.log_level)
        check_device(self.device)
        workers, inside = split_threads(self.thread_count, self.device)
        console = Console()
        try:
            networks = open_networks(
                self.bundle, self.floor_width, self.device, inside, acceleration=self.acceleration
            )
            _measure(networks, self.max_batch, console)
            file = CostFile(self.data, fingerprint(networks.manifest, self.device, inside, self.acceleration))
            self.data.mkdir(parents=True, exist_ok=True)
            file.write(networks.costs.table())
        except Problem as problem:
            raise StartError(problem.detail) from problem
        except OSError as error:
            raise StartError(f"data: costs cannot be written to {self.data}: {error.strerror}") from error
        console.print(_table(networks))
        console.print(
            f"measured one batch at a time on {inside} of {self.thread_count} threads; "
            f"the service runs up to {workers} batches at once",
            highlight=False,
        )
        console.print(f"written to {file.path}", markup=False, highlight=False, soft_wrap=True)


def _measure(networks: Networks, max_batch: int, console: Console) -> None:
    cells = [(width, images) for images in BUCKETS if images <= max_batch for width in networks.manifest.widths]
    with bar(console, "measured", len(cells)) as progress:
        for width, images in cells:
            networks.measure(width, images, BUDGET_S, RUNS)
            progress.advance(f"width {width}, {images} images")


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

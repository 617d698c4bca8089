"""`sfsc import`: the items of Parquet files into a data folder."""

from pathlib import Path

from pydantic_settings import CliPositionalArg
from rich.console import Console

from sfsc_bundle.progress import counting
from sfsc_service.cli.folder import check_pyarrow, opened, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.settings import setting
from sfsc_service.store.embedded.opening import DATABASE
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.parquet import import_items, read_manifest

__all__ = ["Import"]


class Import(PrintingCommand):
    """Put the items that `sfsc export` wrote into a data folder that no service has open, or into a new one.

    It may be repeated: what is there already is left alone.

    example: sfsc import exported data
    """

    source: CliPositionalArg[Path] = setting(..., "folder", "what `sfsc export` wrote")
    data: CliPositionalArg[Path] = setting(..., "folder", "the data folder; also SFSC_DATA")

    def run(self) -> None:
        """Import. Raises StoreError, and StartError where pyarrow is missing."""
        check_pyarrow()
        manifest = read_manifest(self.source)
        space, *others = manifest.spaces
        with storage_errors():
            if not (self.data / DATABASE).exists():
                EmbeddedStore(self.data, space, manifest.dimension, others).close()
            with (
                opened(self.data, manifest.spaces) as store,
                counting(Console(stderr=True), "imported") as progress,
            ):
                found = import_items(store, self.source, manifest, progress)
        document = {"created": found.created, "replaced": found.replaced, "unchanged": found.unchanged}
        if self.as_json:
            self.print_json(document)
        else:
            print(", ".join(f"{count} {name}" for name, count in document.items()))

"""`sfsc import`: the items of Parquet files into a gallery."""

from pydantic_settings import CliPositionalArg
from rich.console import Console

from sfsc_bundle.local_path import LocalPath
from sfsc_bundle.progress import counting
from sfsc_service.cli.any_store import PLACE, GalleryPlace, opened_store
from sfsc_service.cli.folder import check_pyarrow, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.settings import ImageFolder, setting
from sfsc_service.store.parquet import import_items, read_manifest

__all__ = ["Import"]


class Import(PrintingCommand):
    """Put the items that `sfsc export` wrote into a data folder that no service has open, a new one, or Milvus.

    It may be repeated: what is there already is left alone.

    example: sfsc import exported data
    """

    source: CliPositionalArg[LocalPath] = setting(..., "folder", "what `sfsc export` wrote")
    data: CliPositionalArg[GalleryPlace] = setting(..., "gallery", f"{PLACE}; also SFSC_DATA")
    image_folder: ImageFolder | None = setting(
        None, "folder or URL", "where the images of a gallery in Milvus are: a folder, or s3://BUCKET/PREFIX"
    )

    def run(self) -> None:
        """Import. Raises StoreError, and StartError where pyarrow is missing."""
        check_pyarrow()
        manifest = read_manifest(self.source)
        with (
            storage_errors(),
            opened_store(self.data, self.image_folder, manifest) as store,
            counting(Console(stderr=True), "imported") as progress,
        ):
            found = import_items(store, self.source, manifest, progress)
        document = {"created": found.created, "replaced": found.replaced, "unchanged": found.unchanged}
        if self.as_json:
            self.print_json(document)
        else:
            print("items: " + ", ".join(f"{count} {name}" for name, count in document.items()))

"""`sfsc export`: all items of a gallery as Parquet files."""

from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_bundle.local_path import LocalPath
from sfsc_bundle.progress import counting
from sfsc_service.cli.any_store import PLACE, GalleryPlace, opened_store
from sfsc_service.cli.counted import counted
from sfsc_service.cli.folder import check_pyarrow, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import ImageFolder, setting
from sfsc_service.store.parquet import MANIFEST, export_items

__all__ = ["Export"]


class Export(PrintingCommand):
    """Write all items of a data folder that no service has open, of a backup, or of Milvus, as Parquet files.

    Repeated after an interruption, it goes on where it was.

    example: sfsc export backups/monday exported --images
    """

    data: CliPositionalArg[GalleryPlace] = setting(..., "gallery", f"{PLACE}; also SFSC_DATA")
    to: CliPositionalArg[LocalPath] = setting(..., "folder", "a new folder, or one of an interrupted export")
    image_folder: ImageFolder | None = setting(
        None, "folder or URL", "where the images of a gallery in Milvus are: a folder, or s3://BUCKET/PREFIX"
    )
    images: CliToggleFlag[bool] = setting(False, "flag", "with the stored images")

    def run(self) -> None:
        """Export. Raises StoreError, and StartError where pyarrow is missing."""
        check_pyarrow()
        with (
            storage_errors(),
            opened_store(self.data, self.image_folder) as store,
            counting(Console(stderr=True), "exported") as progress,
        ):
            found = export_items(store, self.to, images=self.images, progress=progress)
        if self.as_json:
            self.print_json({"items": found.items, "with_image": found.images, "parts": len(found.parts)})
        else:
            of_them = f"{found.images} of them with their image" if self.images else "without their images"
            items = counted(found.items, "item")
            print(escaped(f"{items}, {of_them}: in {self.to}, whose {MANIFEST} has the checksums"))

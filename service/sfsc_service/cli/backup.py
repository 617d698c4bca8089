"""`sfsc backup`: a copy of a data folder, while the service runs."""

from pathlib import Path

from pydantic_settings import CliPositionalArg
from rich.console import Console

from sfsc_bundle.progress import counting
from sfsc_service.cli.folder import storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.engine.alignment_file import ALIGNMENT_FILES
from sfsc_service.settings import setting
from sfsc_service.store.embedded.backup import copy_folder

__all__ = ["Backup"]


class Backup(PrintingCommand):
    """Copy the data folder of a service, which may run: items, vectors and images as they are at one moment.

    Collections are copied one after the other.

    On the same file system, images and segments are hard links, which take no space of their own.

    example: sfsc backup data backups/monday
    """

    data: CliPositionalArg[Path] = setting(..., "folder", "the data folder; also SFSC_DATA")
    target: CliPositionalArg[Path] = setting(..., "folder", "where the copy goes: a new or an empty folder")

    def run(self) -> None:
        """Copy. Raises StoreError."""
        with storage_errors(), counting(Console(stderr=True), "images") as progress:
            copied = copy_folder(self.data, self.target, progress, ALIGNMENT_FILES)
        if self.as_json:
            self.print_json({**copied._asdict(), "to": str(self.target)})
        else:
            what = f"{copied.items} items and {copied.images} images"
            of = f" of {copied.collections} collections" if copied.collections > 1 else ""
            print(f"{what}{of} are in {self.target}")

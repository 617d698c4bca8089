"""`sfsc restore`: make a data folder of a backup."""

from pydantic_settings import CliPositionalArg
from rich.console import Console

from sfsc_bundle.local_path import LocalPath
from sfsc_bundle.progress import counting
from sfsc_service.cli.counted import counted
from sfsc_service.cli.folder import storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.engine.alignment_file import ALIGNMENT_FILES
from sfsc_service.settings import setting
from sfsc_service.store.embedded.backup import copy_folder
from sfsc_service.store.embedded.check import check_folder
from sfsc_service.store.embedded.partial_copy import check_target
from sfsc_service.store.embedded.stores import collection_folder, collection_names
from sfsc_service.store.errors import StoreFailedError

__all__ = ["Restore"]


class Restore(PrintingCommand):
    """Make a data folder of a backup, after checking every item of it; the backup stays as it is.

    example: sfsc restore backups/monday data
    """

    backup: CliPositionalArg[LocalPath] = setting(..., "folder", "what `sfsc backup` wrote")
    data: CliPositionalArg[LocalPath] = setting(..., "folder", "a new or an empty data folder; also SFSC_DATA")

    def run(self) -> None:
        """Check and copy. Raises StoreError."""
        with storage_errors():
            check_target(self.data)
            with counting(Console(stderr=True), "checked") as progress:
                folders = [collection_folder(self.backup, name) for name in collection_names(self.backup)]
                whole = all(check_folder(folder, progress).whole for folder in folders)
            if not whole:
                check = f"sfsc check {self.backup}"
                raise StoreFailedError(
                    f"{self.backup} is damaged and was not restored; `{check}` says what is, and after "
                    f"`{check} --repair` the rest of it can be restored"
                )
            copied = copy_folder(self.backup, self.data, beside=ALIGNMENT_FILES)
        if self.as_json:
            self.print_json({**copied._asdict(), "to": str(self.data)})
        else:
            what = f"{counted(copied.items, 'item')} and {counted(copied.images, 'image')}"
            of = f" of {copied.collections} collections" if copied.collections > 1 else ""
            print(f"{what}{of} are in {self.data}")

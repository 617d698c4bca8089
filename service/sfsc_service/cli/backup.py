"""`sfsc backup`: a copy of a data folder, while the service runs."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator
from pydantic_settings import CliPositionalArg
from rich.console import Console

from sfsc_bundle.local_path import local_path
from sfsc_bundle.progress import counting
from sfsc_service.cli.at_service import PLACE, DataPlace, is_address, maintained
from sfsc_service.cli.counted import counted
from sfsc_service.cli.folder import storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.cli.shown import escaped
from sfsc_service.engine.alignment_file import ALIGNMENT_FILES
from sfsc_service.settings import setting
from sfsc_service.store.embedded.backup import CopiedFolder, copy_folder

__all__ = ["Backup"]


class Backup(PrintingCommand):
    """Copy the data folder of a service, which may run: items, vectors and images as they are at one moment.

    Collections are copied one after the other.

    On the same file system, images and segments are hard links, which take no space of their own.

    A service on another machine copies into the folder that its SFSC_BACKUP_FOLDER names: give its address, and a
    key with the scope admin in SFSC_API_KEY where it asks for one.

    example: sfsc backup data backups/monday
    example: sfsc backup http://127.0.0.1:8000 monday
    """

    data: CliPositionalArg[DataPlace] = setting(..., "folder or URL", f"{PLACE}; also SFSC_DATA")
    target: CliPositionalArg[Annotated[str, AfterValidator(local_path)] | None] = setting(
        None,
        "folder or name",
        "where the copy goes: a new or an empty folder; at a service its name, the time if not given",
    )

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if self.target is None and not is_address(self.data):
            raise ValueError("TARGET must be a new or an empty folder; found none")
        return self

    def run(self) -> None:
        """Copy. Raises StoreError, ServiceError, StartError."""
        if is_address(self.data):
            found = maintained(self.data, "backup", lambda client: client.backup(name=self.target), "images")
            copied, where = CopiedFolder(found["items"], found["images"], found["collections"]), found["name"]
        else:
            assert self.target is not None, "checked before"
            where = self.target
            with storage_errors(), counting(Console(stderr=True), "images") as progress:
                copied = copy_folder(Path(self.data), Path(where), progress, ALIGNMENT_FILES)
        if self.as_json:
            self.print_json({**copied._asdict(), "to": where})
        else:
            what = f"{counted(copied.items, 'item')} and {counted(copied.images, 'image')}"
            of = f" of {copied.collections} collections" if copied.collections > 1 else ""
            print(escaped(f"{what}{of} are in {where}"))
            if not is_address(self.data):
                print(escaped(f"`sfsc check {where}` reads all of it, as restoring it does"))

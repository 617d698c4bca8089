"""`sfsc compact`: give back the disk space of items that were deleted or replaced."""

from pathlib import Path

from pydantic_settings import CliPositionalArg

from sfsc_service.cli.folder import locked, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.settings import setting
from sfsc_service.store.embedded.compaction import compact_folder

__all__ = ["Compact"]


class Compact(PrintingCommand):
    """Give back the disk space of what was deleted or replaced, in the data folder of a service that does not run.

    A running service gives most of it back by itself.

    example: sfsc compact data
    """

    data: CliPositionalArg[Path] = setting(..., "folder", "the data folder; also SFSC_DATA")

    def run(self) -> None:
        """Compact. Raises StoreError."""
        with storage_errors(), locked(self.data) as folders:
            found = [compact_folder(folder) for folder in folders.values()]
        before, after = sum(one.before for one in found), sum(one.after for one in found)
        if self.as_json:
            self.print_json({"bytes_before": before, "bytes_after": after})
        else:
            print(f"database and vectors have {after} bytes, before {before}")

"""`sfsc compact`: give back the disk space of items that were deleted or replaced."""

from pathlib import Path

from pydantic_settings import CliPositionalArg

from sfsc_service.cli.at_service import PLACE, DataPlace, is_address, maintained
from sfsc_service.cli.folder import locked, storage_errors
from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.settings import setting
from sfsc_service.store.embedded.compaction import compact_folder

__all__ = ["Compact"]


class Compact(PrintingCommand):
    """Give back the disk space of what was deleted or replaced in a data folder.

    A running service gives most of it back by itself. Given its address, and a key with the scope admin in
    SFSC_API_KEY where it asks for one, it writes all vectors anew; the database keeps free pages for new items.

    example: sfsc compact data
    example: sfsc compact http://127.0.0.1:8000
    """

    data: CliPositionalArg[DataPlace] = setting(..., "folder or URL", f"{PLACE}; also SFSC_DATA")

    def run(self) -> None:
        """Compact. Raises StoreError, ServiceError, StartError."""
        if is_address(self.data):
            found = maintained(self.data, "compact", lambda client: client.compact(), "collections")
            before, after, what = found["bytes_before"], found["bytes_after"], "vectors have"
        else:
            with storage_errors(), locked(Path(self.data)) as folders:
                compacted = [compact_folder(folder) for folder in folders.values()]
            before, after = sum(one.before for one in compacted), sum(one.after for one in compacted)
            what = "database and vectors have"
        if self.as_json:
            self.print_json({"bytes_before": before, "bytes_after": after})
        else:
            print(f"{what} {after} bytes, before {before}")

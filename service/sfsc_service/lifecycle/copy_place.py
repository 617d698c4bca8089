"""Where the copy of a data folder is made, and how it takes its place.

In the place of the data folder: the copy is made beside it, and both change names in one step. So under the
folder's name there is one whole gallery at every moment, and the old one is kept beside it. In another folder: the
copy gets its name when it is whole. Whatever a kill leaves undone, the same command does.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sfsc_bundle.atomic_file import sync
from sfsc_service.lifecycle.reembed import STATE
from sfsc_service.store.embedded.folder_exchange import can_exchange, exchange
from sfsc_service.store.embedded.opening import DATABASE, IMAGES, SEGMENTS
from sfsc_service.store.embedded.partial_copy import check_target
from sfsc_service.store.embedded.stores import COLLECTIONS
from sfsc_service.store.errors import OpenRefusedError

__all__ = ["CopyPlace"]


@dataclass(frozen=True, slots=True)
class CopyPlace:
    """`data`: the data folder. `to`: where the copy goes; None: in the place of the data folder."""

    data: Path
    to: Path | None

    @property
    def unfinished(self) -> Path:
        """Where the copy is until it is whole."""
        if self.to is not None:
            return self.to.with_name(f".{self.to.name}.partial")
        data = self.data.resolve()
        return data.with_name(f".{data.name}.reembed")

    @property
    def placed(self) -> bool:
        """Whether an interrupted call has put the copy in place already, so that little is left to do."""
        return ((self.data if self.to is None else self.to) / STATE).is_file()

    def check(self) -> None:
        """Refuse a place where the copy could not go in the end.

        Raises OpenRefusedError: there is something at `to`, or the data folder cannot change names with another.
        """
        if self.to is not None:
            if self.to.resolve() in {self.data.resolve() / name for name in (COLLECTIONS, IMAGES, SEGMENTS)}:
                raise OpenRefusedError(f"to: must be no folder that the gallery has itself, found {self.to.name}")
            check_target(self.to)
            return
        data = self.data.resolve()
        if data.is_mount() or not can_exchange(data.parent):
            why = "it is a mount point" if data.is_mount() else "its file system does not allow it"
            raise OpenRefusedError(
                f"folder: {data} must be able to change names with a folder beside it, and {why}; name "
                "another folder for the new gallery (--to)"
            )

    def put(self) -> Path | None:
        """Put a finished copy in place, or do what is left of that; where the old gallery is, if it has moved.

        Raises OSError.
        """
        if self.to is not None:
            if not self.placed:
                if self.to.exists():
                    self.to.rmdir()
                self.unfinished.rename(self.to)
                sync([self.to.parent])
            (self.to / STATE).unlink()
            return None
        data = self.data.resolve()
        if not self.placed:
            self.unfinished.chmod(data.stat().st_mode)
            exchange(data, self.unfinished)
        old = None
        if (self.unfinished / DATABASE).exists() and not (self.unfinished / STATE).exists():
            old = data.with_name(f"{data.name}.before-{datetime.now(UTC).strftime('%Y-%m-%dT%H-%M-%SZ')}")
            self.unfinished.rename(old)
        (data / STATE).unlink()
        sync([data, data.parent])
        return old

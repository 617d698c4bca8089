"""The quality that was measured on the gallery's own images, kept in the data folder: `quality.json`.

It is valid for the graphs that it was measured with. A file that is damaged, or of other graphs, is ignored.
"""

import logging
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.manifest import Manifest, Quality
from sfsc_service.engine.saved_file import read_saved

__all__ = ["MeasuredQuality", "QualityFile"]

NAME = "quality.json"

log = logging.getLogger(__name__)


class MeasuredQuality(BaseModel):
    """A quality and how it came about.

    `graphs`: their digests by width. `items`: those that the gallery had then. `field`: the metadata that named
    what an image shows; None: queries were near copies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    graphs: dict[str, str]
    measured: datetime
    items: int = Field(ge=0)
    field: str | None
    quality: Quality


class QualityFile:
    """The file of one data folder."""

    def __init__(self, data: Path) -> None:
        self.path = data / NAME

    def read(self, manifest: Manifest) -> MeasuredQuality | None:
        """What was measured with these graphs; None where nothing was. Raises nothing."""
        found = read_saved(self.path, MeasuredQuality, "the bundle's own quality is in force")
        if found is None:
            return None
        if found.graphs != manifest.graphs or found.quality.widths != manifest.widths:
            log.info("ignoring %s, which was measured with other graphs", self.path)
            return None
        return found

    def write(self, measured: MeasuredQuality) -> None:
        """Replace the file. Raises OSError."""
        write_file(self.path, measured.model_dump_json(indent=1).encode())

    def delete(self) -> None:
        """Remove the file, if there is one. Raises OSError."""
        self.path.unlink(missing_ok=True)

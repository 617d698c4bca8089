"""The gallery's alignment in the data folder: `alignment.json`, and its maps in `alignment-DIGEST.npz`.

- The JSON file is written last: with it, everything changes at once, and a kill at any moment leaves the old
  state or the new one. Maps that it does not name are leftovers and are removed.
- Stored vectors depend on the maps, so the bundle is not opened where a file is damaged or of other graphs.
"""

import io
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfsc_bundle.atomic_file import sync, write_file
from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.errors import BundleError
from sfsc_bundle.manifest import Manifest, Sha256
from sfsc_bundle.retrieval import Floats
from sfsc_service.engine.gallery_alignment import GalleryAlignment, digest_of_maps

__all__ = ["ALIGNMENT_FILES", "AlignmentFile", "AlignmentWish", "FittedAlignment", "SavedAlignment"]

NAME, MAPS = "alignment.json", "alignment-*.npz"
ALIGNMENT_FILES = (NAME, MAPS)
"""Patterns of the names of all files."""

Points = Annotated[float, Field(ge=0, le=100)]


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlignmentWish(_Saved):
    """Somebody asked for an alignment; `field`: the metadata that name what an image shows, if any do."""

    field: str | None


class FittedAlignment(_Saved):
    """Maps and how they came about.

    `maps`: their digest. `images`: those that they were fitted on. `queries`: those that they were judged with.
    `before`, `after`: mAP of the queries in a gallery of mixed widths, without the maps and with them.
    """

    maps: Sha256
    made: datetime
    field: str | None
    method: Literal["procrustes", "least-squares"]
    strength: float = Field(ge=0, description="λ of least squares")
    images: int = Field(ge=1)
    queries: int = Field(ge=1)
    before: Points
    after: Points


class SavedAlignment(_Saved):
    """What the file says. `graphs`: the digests, by width, of the graphs that `fitted` belongs to."""

    schema_version: Literal[1] = 1
    asked: AlignmentWish | None = None
    graphs: dict[str, str] = Field(default_factory=dict)
    fitted: FittedAlignment | None = None
    in_force: bool = False


class AlignmentFile:
    """The files of one data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.path = data / NAME

    def read(self) -> SavedAlignment:
        """What the file says; nothing where there is none. Raises BundleError: it cannot be read."""
        try:
            return SavedAlignment.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return SavedAlignment()
        except (OSError, ValidationError) as error:
            reason = first_broken_rule(error) if isinstance(error, ValidationError) else error
            raise BundleError(f"the gallery's alignment {self.path} cannot be read: {reason}") from error

    def open(self, own: Manifest) -> GalleryAlignment | None:
        """The alignment of a bundle's graphs; None where there is none.

        Raises BundleError: it cannot be read, or is of other graphs.
        """
        saved = self.read()
        if saved.fitted is None:
            return None
        if saved.graphs != own.graphs:
            raise BundleError(
                f"the vectors in {self._data} are aligned for the graphs of another bundle than {own.name}; serve "
                "that bundle and undo the alignment with `sfsc align --undo` before another one is served"
            )
        return GalleryAlignment(own, self._read_maps(saved.fitted.maps), saved.in_force)

    def write(self, own: Manifest, fitted: FittedAlignment, maps: Mapping[str, Floats]) -> None:
        """Put an alignment of a bundle's graphs in force. Raises OSError."""
        content = io.BytesIO()
        np.savez(content, **maps)  # type: ignore[arg-type]  # numpy's stub takes them for its option
        path = self._maps(fitted.maps)
        if not path.exists():
            write_file(path, content.getvalue())
        self._write(SavedAlignment(graphs=own.graphs, fitted=fitted, in_force=True))

    def ask(self, wish: AlignmentWish) -> None:
        """Keep that an alignment was asked for, in the place of all else. Raises OSError."""
        self._write(SavedAlignment(asked=wish))

    def put_in_force(self, in_force: bool) -> None:
        """Keep whether the alignment is in force from now on. Raises OSError, BundleError."""
        self._write(self.read().model_copy(update={"in_force": in_force}))

    def delete(self) -> None:
        """Remove everything. Raises OSError."""
        self.path.unlink(missing_ok=True)
        sync([self._data])
        self._remove_others(None)

    def _write(self, saved: SavedAlignment) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        write_file(self.path, saved.model_dump_json(indent=1).encode())
        self._remove_others(None if saved.fitted is None else self._maps(saved.fitted.maps))

    def _remove_others(self, kept: Path | None) -> None:
        for path in self._data.glob(MAPS):
            if path != kept:
                path.unlink()

    def _maps(self, digest: str) -> Path:
        return self._data / MAPS.replace("*", digest[:16])

    def _read_maps(self, digest: str) -> dict[str, Floats]:
        path = self._maps(digest)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                maps = {width: stored[width] for width in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise BundleError(f"the gallery's alignment {path} cannot be read: {error}") from error
        if (found := digest_of_maps(maps)) != digest:
            raise BundleError(f"{path}: its sha256 must be {digest} as {NAME} says, found {found}")
        return maps

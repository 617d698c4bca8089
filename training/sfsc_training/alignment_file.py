"""The alignment of a run, in its folder.

RUN/alignment.npz    a map float32 [D, D] for each width; none where nothing is changed
RUN/alignment.json   what they are, and the digests of the weights and of the maps that belong together

The maps are written first: after a crash between the two, the digests disagree and the alignment counts as stale.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.manifest import Alignment
from sfsc_training.alignment import Maps
from sfsc_training.checkpoint import write_json
from sfsc_training.errors import CheckpointError

__all__ = ["RunAlignment", "read_alignment", "write_alignment"]


@dataclass(frozen=True, slots=True, eq=False)
class RunAlignment:
    """What became of a run's embeddings. `maps`: empty where they were left as they are.

    `compatible_with`: ids of the older spaces that the maps lead to.
    """

    description: Alignment
    maps: Maps
    compatible_with: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Digest of the maps."""
        digest = hashlib.sha256()
        for width, values in sorted(self.maps.items()):
            digest.update(width.encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


class _Document(BaseModel):
    """alignment.json"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    maps_sha256: str
    compatible_with: tuple[str, ...]
    alignment: Alignment


def write_alignment(folder: Path, weights_sha256: str, alignment: RunAlignment) -> None:
    """Replace the alignment of a run, which belongs to these weights."""
    content = io.BytesIO()
    np.savez(content, **dict(alignment.maps))  # type: ignore[arg-type]  # numpy's stub takes them for its option
    write_file(folder / "alignment.npz", content.getvalue())
    document = _Document(
        weights_sha256=weights_sha256,
        maps_sha256=alignment.sha256,
        compatible_with=alignment.compatible_with,
        alignment=alignment.description,
    )
    write_json(folder / "alignment.json", document.model_dump(mode="json"))


def read_alignment(folder: Path, weights_sha256: str, widths: Sequence[str]) -> RunAlignment | None:
    """The alignment of a run with these weights; None where it has none.

    Raises:
        CheckpointError: it cannot be read, or belongs to other weights or to other maps than are there.
    """
    path = folder / "alignment.json"
    if not path.exists():
        return None
    try:
        document = _Document.model_validate_json(path.read_bytes())
        with np.load(io.BytesIO((folder / "alignment.npz").read_bytes()), allow_pickle=False) as stored:
            maps = {width: stored[width] for width in widths if width in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        what = first_broken_rule(error) if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"the alignment of {folder} cannot be read ({what}): run sfsc-train align again"
        ) from error
    found = RunAlignment(document.alignment, maps, document.compatible_with)
    if (document.weights_sha256, document.maps_sha256) != (weights_sha256, found.sha256):
        raise CheckpointError(
            f"the alignment of {folder} was fitted to other weights than it has now: run sfsc-train align again"
        )
    return found

"""The alignment of a run in its folder: `alignment.npz`, one file, replaced as a whole or not at all.

It holds a map float32 [D, D] for each width (none where nothing is changed) and, under the name `description`, the
bytes of a JSON document: what the maps are, and the digest of the weights that they belong to.
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
from sfsc_training.errors import CheckpointError, StaleAlignmentError

__all__ = ["RunAlignment", "read_alignment", "write_alignment"]

_FILE = "alignment.npz"
_DESCRIPTION = "description"


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
    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    compatible_with: tuple[str, ...]
    alignment: Alignment


def write_alignment(folder: Path, weights_sha256: str, alignment: RunAlignment) -> None:
    """Replace the alignment of a run, which belongs to these weights."""
    document = _Document(
        weights_sha256=weights_sha256,
        compatible_with=alignment.compatible_with,
        alignment=alignment.description,
    )
    arrays = {**alignment.maps, _DESCRIPTION: np.frombuffer(document.model_dump_json().encode(), np.uint8)}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its option
    write_file(folder / _FILE, content.getvalue())


def read_alignment(folder: Path, weights_sha256: str, widths: Sequence[str]) -> RunAlignment | None:
    """The alignment of a run with these weights; None where it has none.

    Raises:
        StaleAlignmentError: it belongs to other weights.
        CheckpointError: it cannot be read.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            document = _Document.model_validate_json(stored[_DESCRIPTION].tobytes())
            maps = {width: stored[width] for width in widths if width in stored.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        what = first_broken_rule(error) if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"the alignment of {folder} cannot be read ({what}): run sfsc-train align again"
        ) from error
    if document.weights_sha256 != weights_sha256:
        raise StaleAlignmentError(
            f"the alignment of {folder} was fitted to other weights than it has now: run sfsc-train align again"
        )
    return RunAlignment(document.alignment, maps, document.compatible_with)

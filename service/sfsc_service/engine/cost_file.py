"""What batches cost, kept on disk for the next start: `costs.json` in the data folder.

Costs are valid for one machine and one bundle: the file holds a fingerprint of both. A file that is damaged or has
another fingerprint is ignored. Writing is atomic: a reader sees the old or the new file.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import onnxruntime
from pydantic import BaseModel, ConfigDict, Field

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.machine import processor
from sfsc_bundle.manifest import Manifest
from sfsc_bundle.runner import Acceleration
from sfsc_service.engine.costs import Measured
from sfsc_service.engine.saved_file import read_saved

__all__ = ["CostFile", "fingerprint"]

NAME = "costs.json"

log = logging.getLogger(__name__)


class _SavedCosts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    fingerprint: dict[str, Any]
    costs: dict[str, dict[Annotated[int, Field(ge=1, le=1024)], Measured]]


def fingerprint(
    manifest: Manifest, device: str, threads: int, acceleration: Acceleration | None = None
) -> dict[str, Any]:
    """What the costs of a bundle depend on; `threads`: threads of one run."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
        "device": device,
        "acceleration": asdict(acceleration or Acceleration()),
        "graphs": manifest.graphs,
    }


class CostFile:
    """The file of one data folder, for one fingerprint."""

    def __init__(self, data: Path, wanted: Mapping[str, Any]) -> None:
        self.path = data / NAME
        self._fingerprint = dict(wanted)

    def read(self) -> dict[str, dict[int, Measured]] | None:
        """Costs per width and batch size; None if there is no file with this fingerprint. Raises nothing."""
        saved = read_saved(self.path, _SavedCosts, "costs will be measured again")
        if saved is None:
            return None
        changed = [name for name, value in self._fingerprint.items() if saved.fingerprint.get(name) != value]
        if changed or saved.costs.keys() != self._fingerprint["graphs"].keys():
            log.info(
                "ignoring %s, because these have changed: %s; costs will be measured again",
                self.path,
                ", ".join(changed) or "bundle",
            )
            return None
        return saved.costs

    def write(self, costs: Mapping[str, Mapping[int, Measured]]) -> None:
        """Replace the file, in a folder that is there: one made again would hide that it was gone.

        Raises OSError.
        """
        saved = _SavedCosts(
            fingerprint=self._fingerprint, costs={width: dict(sizes) for width, sizes in costs.items()}
        )
        write_file(self.path, saved.model_dump_json(indent=1).encode())

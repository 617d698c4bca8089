"""Rendered vehicles as a data set: drawn into the data folder once, then read as a folder with cameras."""

import json
from collections.abc import Callable
from pathlib import Path

from sfsc_training.config import DataSection, VehiclesSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import DataError
from sfsc_vehicles import write_splits

__all__ = ["read_vehicles"]

_DRAWN = "vehicles.json"  # what was drawn; written last, so a folder that has it is complete


def read_vehicles(
    folder: Path,
    section: DataSection,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    earlier: Division | None = None,
) -> Dataset:
    """Read the vehicles of a recipe; they are drawn first if the folder is new or empty.

    Args:
        progress: called with the images done and the images in all.
        earlier: the division of an earlier training, which is kept.

    Raises:
        DataError: the folder holds anything else, or the recipe's images are not square.
    """
    vehicles = section.vehicles
    if vehicles is None or section.height != section.width:
        raise DataError(f"vehicles are square images; data asks for {section.height}×{section.width}")
    wanted = vehicles.model_dump() | {"size": section.height}
    marker = folder / _DRAWN
    if marker.is_file():
        found = json.loads(marker.read_text())
        if found != wanted:
            raise DataError(f"{folder} holds vehicles drawn as {found}; the recipe asks for {wanted}")
    else:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise DataError(
                f"this recipe draws its own vehicles into a new or empty folder, and {folder} is neither; "
                "for your own images take another recipe, such as photos"
            )
        _draw(folder, vehicles, section.height, progress)
        marker.write_text(json.dumps(wanted) + "\n")
    return read_folder(folder, section.model_copy(update={"camera": r"c(\d+)s"}), seed, earlier)


def _draw(folder: Path, vehicles: VehiclesSection, size: int, progress: Callable[[int, int], None] | None) -> None:
    try:
        write_splits(
            folder,
            vehicles.seed,
            train=vehicles.train,
            test=vehicles.test,
            shots=vehicles.shots,
            size=size,
            twin_share=vehicles.twin_share,
            workers=2,
            progress=lambda _: progress,
        )
    except (ValueError, OSError) as error:
        raise DataError(f"vehicles cannot be drawn into {folder}: {error}") from error

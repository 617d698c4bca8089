"""The data set of a recipe, read by the reader that the recipe names."""

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from sfsc_training.config import DataSection
from sfsc_training.data.published.objects import read_cub, read_inshop, read_sop
from sfsc_training.data.published.persons import read_market1501, read_msmt17
from sfsc_training.data.published.vehicles import read_vehicleid, read_veri776
from sfsc_training.data.reader import Dataset, read_folder
from sfsc_training.data.vehicles import read_vehicles
from sfsc_training.errors import DataError

__all__ = ["read_dataset"]


def read_dataset(
    folder: Path, section: DataSection, seed: int, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Names and roles of all images; none is decoded.

    Args:
        progress: called with the images done and the images in all, where vehicles are drawn first.

    Raises:
        DataError: the folder or something in it is missing, or is not as the set's authors publish it.
    """
    if section.vehicles is not None:
        return read_vehicles(folder, section, seed, progress)
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist")
    return _reader(section)(folder, section, seed)


def _reader(section: DataSection) -> Callable[[Path, DataSection, int], Dataset]:
    match section.reader:
        case "folder":
            return read_folder
        case "market1501":
            return read_market1501
        case "msmt17":
            return read_msmt17
        case "veri776":
            return read_veri776
        case "vehicleid":
            return read_vehicleid
        case "sop":
            return read_sop
        case "inshop":
            return read_inshop
        case "cub":
            return read_cub
        case _:
            assert_never(section.reader)

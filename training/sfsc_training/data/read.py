"""The data set of a recipe, by the reader that it names."""

from collections.abc import Callable
from pathlib import Path

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
    """Names and roles of all images; nothing is decoded.

    Args:
        progress: images done and in all, where images are drawn first.

    Raises:
        DataError: something is missing or not as the set's authors publish it.
    """
    if section.vehicles is not None:
        return read_vehicles(folder, section, seed, progress)
    readers = {
        "folder": read_folder,
        "market1501": read_market1501,
        "msmt17": read_msmt17,
        "veri776": read_veri776,
        "vehicleid": read_vehicleid,
        "sop": read_sop,
        "inshop": read_inshop,
        "cub": read_cub,
    }
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist")
    return readers[section.reader](folder, section, seed)

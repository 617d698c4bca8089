"""The data set of a recipe, read by the reader that the recipe names."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, assert_never

from sfsc_training.config import DataSection
from sfsc_training.data.csv_list import read_csv
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division
from sfsc_training.data.published.objects import read_cub, read_inshop, read_sop
from sfsc_training.data.published.persons import read_market1501, read_msmt17
from sfsc_training.data.published.vehicles import read_vehicleid, read_veri776
from sfsc_training.data.reader import read_folder
from sfsc_training.data.shards.reader import are_shards, read_shards
from sfsc_training.data.vehicles import read_vehicles
from sfsc_training.errors import DataError

__all__ = ["read_dataset"]


def read_dataset(
    place: Path,
    section: DataSection,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    earlier: Division | None = None,
) -> Dataset:
    """Names and roles of all images; none is decoded.

    Args:
        place: data folder, list of images (`*.csv`), folder of tar shards or one of them (`*.tar`).
        progress: called with the images done and the images in all, where vehicles are drawn first.
        earlier: the division of an earlier training, which is kept; published sets have their own.

    Raises:
        DataError: the folder or something in it is missing, or is not as the set's authors publish it.
    """
    if section.vehicles is not None:
        return read_vehicles(place, section, seed, progress, earlier)
    if not place.exists():
        raise DataError(f"--data {place} does not exist")
    match section.reader:
        case "folder" | "csv" if are_shards(place):
            return read_shards(place, section, seed, earlier)
        case "folder" if place.is_dir():
            return read_folder(place, section, seed, earlier)
        case "folder" | "csv":
            return read_csv(place, section, seed, earlier)
        case _:
            return _published(section.reader)(place, section, seed)


def _published(
    reader: Literal["market1501", "msmt17", "veri776", "vehicleid", "sop", "inshop", "cub"],
) -> Callable[[Path, DataSection, int], Dataset]:
    match reader:
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
            assert_never(reader)

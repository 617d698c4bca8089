"""Vehicle re-identification: VeRi-776 and VehicleID."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.published.source import Parts, PublishedImage, Source, make_dataset
from sfsc_training.errors import DataError

__all__ = ["VEHICLEID", "VERI776", "read_vehicleid", "read_veri776"]

VERI776 = Source(
    "veri776",
    "VeRi",
    "https://vehiclereid.github.io/VeRi/",
    "research only, on request (Liu et al., ECCV 2016)",
    # The count in the paper, and the count of the archive that is distributed.
    {"train": ((37778, 576), (37746, 575)), "query": ((1678, 200),), "gallery": ((11579, 200),)},
)
VEHICLEID = Source(
    "vehicleid",
    "VehicleID_V1.0",
    "https://www.pkuml.org/resources/pku-vehicleid.html",
    "research only, on request (Liu et al., CVPR 2016)",
    {"train": ((113346, 13164), (110178, 13134))},
)
_VERI_NAME = re.compile(r"^(\d{4})_c(\d{3})_\d+_\d+\.jpg$")
_SUBSETS = ("800", "1600", "2400", "3200", "6000", "13164")


def read_veri776(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads `name_train.txt` (query, test), lists of `0001_c001_00016450_0.jpg`: identity, camera, time, box."""
    parts = ("train", "test", "query")
    root = VERI776.root(folder, [f"{kind}_{part}{end}" for part in parts for kind, end in _VERI_PIECES])
    train, gallery, query = (_veri(root, part) for part in parts)
    return make_dataset(root, VERI776, Parts(train, gallery, query), section, seed)


def read_vehicleid(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads `train_test_split/train_list.txt`, `test_list_800.txt` …: `IMAGE VEHICLE` is `image/IMAGE.jpg`.

    The gallery has one image of each vehicle, drawn by the seed; all others are queries. There are no cameras.
    `data.subset` is the size of the test list, 800 if it is not set.
    """
    subset = section.subset or _SUBSETS[0]
    if subset not in _SUBSETS:
        raise DataError(f"data.subset of vehicleid must be one of {', '.join(_SUBSETS)}; found {subset!r}")
    lists = ("train_test_split/train_list.txt", f"train_test_split/test_list_{subset}.txt")
    root = VEHICLEID.root(folder, (*lists, "image"))
    train, test = (_vehicleid(root, name) for name in lists)
    gallery, query = _one_each(test, seed)
    source = replace(VEHICLEID, counts={**VEHICLEID.counts, "gallery": ((int(subset), int(subset)),)})
    return make_dataset(root, source, Parts(train, gallery, query), section, seed)


_VERI_PIECES = (("name", ".txt"), ("image", ""))


def _veri(root: Path, part: str) -> list[PublishedImage]:
    images = []
    for name in (root / f"name_{part}.txt").read_text().split():
        match = _VERI_NAME.match(name)
        if match is None:
            raise DataError(f"{root}/name_{part}.txt: {name!r} is not named like 0001_c001_00016450_0.jpg")
        images.append(PublishedImage(root / f"image_{part}" / name, match[1], int(match[2])))
    return images


def _vehicleid(root: Path, name: str) -> list[PublishedImage]:
    images = []
    for number, line in enumerate((root / name).read_text().splitlines(), 1):
        words = line.split()
        if len(words) != 2:
            raise DataError(f"{root / name}, line {number}: expected IMAGE VEHICLE, found {line!r}")
        images.append(PublishedImage(root / "image" / f"{words[0]}.jpg", words[1]))
    return images


def _one_each(images: list[PublishedImage], seed: int) -> tuple[list[PublishedImage], list[PublishedImage]]:
    by_identity: dict[str | None, list[int]] = {}
    for place, image in enumerate(images):
        by_identity.setdefault(image.identity, []).append(place)
    random = np.random.default_rng([seed, 5])
    chosen = {int(random.choice(places)) for places in by_identity.values()}
    gallery = [image for place, image in enumerate(images) if place in chosen]
    return gallery, [image for place, image in enumerate(images) if place not in chosen]

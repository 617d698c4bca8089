"""Person re-identification: Market-1501 and MSMT17."""

import re
from pathlib import Path

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.published.source import Parts, PublishedImage, Source, make_dataset
from sfsc_training.errors import DataError

__all__ = ["MARKET1501", "MSMT17", "read_market1501", "read_msmt17"]

MARKET1501 = Source(
    "market1501",
    "Market-1501-v15.09.15",
    "https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
    "research only (Zheng et al., ICCV 2015)",
    # The gallery has 750 identities and distractors (0000); the count includes its 3,819 junk images (-1).
    {"train": ((12936, 751),), "query": ((3368, 750),), "gallery": ((19732, 751),)},
)
MSMT17 = Source(
    "msmt17",
    "MSMT17_V1",
    "https://www.pkuvmc.com/dataset.html",
    "research only, on request (Wei et al., CVPR 2018)",
    {"train": ((32621, 1041),), "query": ((11659, 3060),), "gallery": ((82161, 3060),)},
)
_MARKET_NAME = re.compile(r"^(-1|\d{4})_c(\d)s\d_\d{6}_\d{2}\.jpg$")


def read_market1501(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads names: `0002_c1s1_000451_03.jpg` is identity 2, camera 1; identity -1 is junk, 0000 distractors."""
    root = MARKET1501.root(folder, ("bounding_box_train", "bounding_box_test", "query"))
    train, gallery, query = (_market(root / part) for part in ("bounding_box_train", "bounding_box_test", "query"))
    return make_dataset(root, MARKET1501, Parts(train, gallery, query), section, seed)


def read_msmt17(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads the lists `list_train.txt` …: `0000/0000_000_01_0303morning_0015_0_ex.jpg 0` is path, identity.

    The third number of the file name is the camera. The official validation list is used for training: validation
    identities are drawn from the training part as in every other set.
    """
    lists = {part: f"list_{part}.txt" for part in ("train", "val", "query", "gallery")}
    root = MSMT17.root(folder, (*lists.values(), "train", "test"))
    found = {
        part: _msmt(root, name, "train" if part in ("train", "val") else "test") for part, name in lists.items()
    }
    parts = Parts([*found["train"], *found["val"]], found["gallery"], found["query"])
    return make_dataset(root, MSMT17, parts, section, seed)


def _market(folder: Path) -> list[PublishedImage]:
    images = []
    for path in sorted(folder.glob("*.jpg")):
        match = _MARKET_NAME.match(path.name)
        if match is None:
            raise DataError(f"{path} is not named like an image of Market-1501 (0002_c1s1_000451_03.jpg)")
        identity = None if match[1] == "-1" else match[1]
        images.append(PublishedImage(path, identity, int(match[2])))
    return images


def _msmt(root: Path, name: str, folder: str) -> list[PublishedImage]:
    images = []
    for number, line in enumerate((root / name).read_text().splitlines(), 1):
        words = line.split()
        pieces = words[0].rpartition("/")[2].split("_") if words else []
        if len(words) != 2 or len(pieces) < 4 or not pieces[2].isdigit():
            raise DataError(f"{root / name}, line {number}: expected PATH IDENTITY with a camera, found {line!r}")
        # Training and test identities both count from 0, but are different persons.
        images.append(PublishedImage(root / folder / words[0], f"{folder}-{int(words[1]):04d}", int(pieces[2])))
    return images

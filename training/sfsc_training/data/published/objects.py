"""Image retrieval: Stanford Online Products, In-shop Clothes Retrieval, CUB-200-2011."""

from pathlib import Path

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.published.source import Parts, PublishedImage, Source, make_dataset
from sfsc_training.errors import DataError

__all__ = ["CUB", "INSHOP", "SOP", "read_cub", "read_inshop", "read_sop"]

SOP = Source(
    "sop",
    "Stanford_Online_Products",
    "https://cvgl.stanford.edu/projects/lifted_struct/",
    "MIT (Oh Song et al., CVPR 2016)",
    {"train": ((59551, 11318),), "gallery": ((60502, 11316),)},
)
INSHOP = Source(
    "inshop",
    "In-shop Clothes Retrieval Benchmark",
    "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    "non-commercial research only, on request (Liu et al., CVPR 2016)",
    {"train": ((25882, 3997),), "query": ((14218, 3985),), "gallery": ((12612, 3985),)},
)
CUB = Source(
    "cub",
    "CUB_200_2011",
    "https://www.vision.caltech.edu/datasets/cub_200_2011/",
    "non-commercial research only (Wah et al., 2011)",
    {"train": ((5864, 100),), "gallery": ((5924, 100),)},
)
_INSHOP_LISTS = ("Eval/list_eval_partition.txt", "list_eval_partition.txt")


def read_sop(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads `Ebay_train.txt` and `Ebay_test.txt`: a heading, then `image_id class_id super_class_id path`."""
    root = SOP.root(folder, ("Ebay_train.txt", "Ebay_test.txt"))
    train, test = (_table(root / name, 4, skip=1) for name in ("Ebay_train.txt", "Ebay_test.txt"))
    made = [[PublishedImage(root / row[3], row[1].zfill(6)) for row in rows] for rows in (train, test)]
    return make_dataset(root, SOP, Parts(made[0], made[1]), section, seed)


def read_inshop(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads `list_eval_partition.txt`: a count, a heading, then `img/….jpg id_00000001 train|query|gallery`.

    The folder `img/` lies in `Img/`, as the archive unpacks, or beside the list.
    """
    root = INSHOP.root(folder, ())
    place = next((name for name in _INSHOP_LISTS if (root / name).is_file()), _INSHOP_LISTS[0])
    INSHOP.root(folder, (place,))
    base = root / "Img" if (root / "Img").is_dir() else root
    parts: dict[str, list[PublishedImage]] = {"train": [], "query": [], "gallery": []}
    for name, identity, status in _table(root / place, 3, skip=2):
        if status not in parts:
            raise DataError(
                f"{root / place}: evaluation_status must be one of {', '.join(parts)}; found {status!r}"
            )
        parts[status].append(PublishedImage(base / name, identity))
    return make_dataset(root, INSHOP, Parts(parts["train"], parts["gallery"], parts["query"]), section, seed)


def read_cub(folder: Path, section: DataSection, seed: int) -> Dataset:
    """Reads `images.txt` (`1 001.Black_footed_Albatross/….jpg`) and `image_class_labels.txt` (`1 1`).

    The usual split of metric learning: the first half of the classes for training, the second for the test.
    """
    root = CUB.root(folder, ("images.txt", "image_class_labels.txt", "images"))
    labels = {image: int(label) for image, label in _table(root / "image_class_labels.txt", 2)}
    half = max(labels.values(), default=0) // 2
    parts: tuple[list[PublishedImage], list[PublishedImage]] = ([], [])
    for image, name in _table(root / "images.txt", 2):
        if image not in labels:
            raise DataError(f"{root}/image_class_labels.txt has no class for image {image}, {name}")
        parts[labels[image] > half].append(PublishedImage(root / "images" / name, f"{labels[image]:03d}"))
    return make_dataset(root, CUB, Parts(parts[0], parts[1]), section, seed)


def _table(path: Path, columns: int, *, skip: int = 0) -> list[list[str]]:
    rows = []
    for number, line in enumerate(path.read_text().splitlines()[skip:], skip + 1):
        words = line.split()
        if len(words) != columns:
            raise DataError(f"{path}, line {number}: expected {columns} columns, found {line!r}")
        rows.append(words)
    return rows

"""The reader of folders: `DIR/IDENTITY/IMAGE`, or `DIR/{train,test}/IDENTITY/IMAGE`.

An identity is the first folder on the way down that holds images itself: it may lie deeper
(`DIR/shoes/IDENTITY/IMAGE`), and images in folders below it are its own as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division, Part
from sfsc_training.data.findings import Finding
from sfsc_training.data.foreign import check_foreign
from sfsc_training.data.listing import Listed, Listing, make_dataset
from sfsc_training.data.walk import Walked, walk
from sfsc_training.errors import DataError

__all__ = ["list_folder", "read_folder"]

_VALIDATION = ("validation", "val", "valid")


def read_folder(folder: Path, section: DataSection, seed: int, earlier: Division | None = None) -> Dataset:
    """Read names and roles of all images of a folder; none is decoded.

    Args:
        earlier: the division of an earlier training, which is kept.

    Raises:
        DataError: there is no such folder, something in it cannot be used and is not to be left out, too few
            identities, a file name that the camera pattern does not match, or a split without queries or gallery.
    """
    return make_dataset(list_folder(folder), section, seed, earlier)


def list_folder(folder: Path) -> Listing:
    """The images of a folder with the identity of each.

    Raises:
        DataError: there is no such folder, one in it cannot be read, or no image is in an identity folder.
    """
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist")
    check_foreign(folder)
    walked = walk(folder)
    parts = _parts(walked)
    images = [path for path in walked.images if path.parts[0] in parts] if parts else list(walked.images)
    if not images:
        raise DataError(_nothing(folder, walked))
    roots = [Path(name) for name in parts] or [Path()]
    identities = _identities(images, roots)
    listed = [
        Listed(
            folder / path,
            path.as_posix(),
            _below(identities[path.parent], roots).as_posix(),
            parts.get(path.parts[0]),
        )
        for path in images
        if path.parent in identities
    ]
    found = (
        Finding("names that are not UTF-8", walked.nameless),
        Finding(
            "images in no identity folder",
            tuple(path.as_posix() for path in images if path.parent not in identities),
        ),
        Finding("identity folders without an image", _empty(walked, images, roots)),
    )
    if not listed:
        raise DataError(f"{folder} has no identity folders; images must lie at IDENTITY/IMAGE; {found[1]}")
    return Listing(folder, listed, found, notes=(*walked.notes, _beside(walked, parts)))


def _parts(walked: Walked) -> dict[str, Part]:
    """The folders that divide the data set, where `train` and one to test on are there; else none."""
    top = {path.name for path in walked.folders if len(path.parts) == 1}
    validation = next((name for name in _VALIDATION if name in top), None)
    if "train" not in top or not ("test" in top or validation):
        return {}
    if "test" not in top and validation:
        return {"train": "train", validation: "test"}
    parts: dict[str, Part] = {"train": "train", "test": "test"}
    return parts if validation is None else parts | {validation: "validation"}


def _identities(images: Sequence[Path], roots: Sequence[Path]) -> dict[Path, Path]:
    """The identity folder of every folder with images; images right in a root have none."""
    holding = {path.parent for path in images} - set(roots)
    found = {}
    for folder in holding:
        ways = [*reversed(folder.parents), folder]
        found[folder] = next(way for way in ways if way in holding)
    return found


def _below(path: Path, roots: Sequence[Path]) -> Path:
    """A path below its root, which is the name of an identity."""
    return next(path.relative_to(root) for root in roots if path.is_relative_to(root))


def _empty(walked: Walked, images: Sequence[Path], roots: Sequence[Path]) -> tuple[str, ...]:
    """Folders right below a root that hold no image at any depth."""
    used = {parent for path in images for parent in path.parents}
    return tuple(path.as_posix() for path in walked.folders if path.parent in roots and path not in used)


def _beside(walked: Walked, parts: Mapping[str, Part]) -> Finding:
    beside = [path.name for path in walked.folders if parts and len(path.parts) == 1 and path.name not in parts]
    return Finding(f"folders beside {' and '.join(parts)}, ignored", tuple(beside))


def _nothing(folder: Path, walked: Walked) -> str:
    lists = [path.name for path in sorted(folder.glob("*.csv"))]
    if lists:
        return f"{folder} has no identity folders, but a list: give --data {folder / lists[0]}"
    notes = "; ".join(map(str, walked.notes))
    return f"{folder} has no images; they must lie at IDENTITY/IMAGE" + (f" ({notes})" if notes else "")

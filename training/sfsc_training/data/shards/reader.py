"""The reader of shards: a folder of tar files, with or without an index, or one tar file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division
from sfsc_training.data.findings import Finding
from sfsc_training.data.foreign import check_foreign
from sfsc_training.data.listing import Listed, Listing, check_given, make_dataset
from sfsc_training.data.shards.index import INDEX, Index, listed_in, read_index
from sfsc_training.data.shards.scan import Counted, scan
from sfsc_training.data.walk import is_hidden
from sfsc_training.errors import DataError

__all__ = ["TAR", "are_shards", "list_shards", "read_shards", "tars_in"]

TAR = ".tar"


def are_shards(place: Path) -> bool:
    """Whether this is a tar file, or a folder of them: with an index, or without a folder beside them."""
    if not place.is_dir():
        return place.suffix.lower() == TAR
    if (place / INDEX).is_file():
        return True
    entries = [path for path in place.iterdir() if not is_hidden(path.name)]
    return any(path.suffix.lower() == TAR for path in entries) and not any(path.is_dir() for path in entries)


def read_shards(place: Path, section: DataSection, seed: int, earlier: Division | None = None) -> Dataset:
    """Read shards as a data set: the same one as that of the folder or list which they were written from.

    Args:
        earlier: the division of an earlier training, which is kept.

    Raises:
        DataError: as `list_shards` or `make_dataset`.
    """
    listing = list_shards(place)
    if place.is_dir() and not (place / INDEX).exists():
        names = tuple(path.name for path in tars_in(place))
        slow = f"shards without {INDEX}, read from end to end at every start (sfsc-train shards {place} writes it)"
        listing = replace(listing, notes=(*listing.notes, Finding(slow, names)))
    return make_dataset(listing, section, seed, earlier)


def list_shards(place: Path, advance: Callable[[], None] | None = None) -> Listing:
    """The images in shards. Without an index every shard is read from end to end.

    Args:
        advance: called after each shard.

    Raises:
        DataError: the index cannot be used, is not complete or does not list a shard that is there; or no shard
            holds an image with an identity.
    """
    troubles, notes = Counted(), Counted()
    shards = tars_in(place)
    index = read_index(place) if place.is_dir() else None
    images: list[Listed] = []
    if index is not None:
        images = _indexed(place, index, shards, troubles)
    for shard in shards if index is None else ():
        images += scan(shard, troubles, notes)
        if advance is not None:
            advance()
    kept = _without_copies(images, troubles)
    if not kept:
        why = "; ".join(map(str, troubles.findings()))
        raise DataError(
            f"{place}: {len(shards)} shards hold no image with an identity (KEY.jpg beside KEY.json or KEY.cls)"
            + (f"; {why}" if why else "")
        )
    check_given(place, kept, "every KEY.json")
    return Listing(place, kept, troubles.findings(), notes.findings())


def tars_in(place: Path) -> list[Path]:
    """The tar files of a folder, by name, or the one given. Raises DataError for another command's folder."""
    if not place.is_dir():
        return [place]
    check_foreign(place)
    return sorted(path for path in place.iterdir() if path.suffix.lower() == TAR and not is_hidden(path.name))


def _indexed(folder: Path, index: Index, shards: Sequence[Path], troubles: Counted) -> list[Listed]:
    if index.missing:
        raise DataError(
            f"{folder / INDEX} lists {len(index.header.shards)} shards and has the images of {len(index.shards)}: "
            "sfsc-train shards was interrupted; give the same command again"
        )
    unknown = [path.name for path in shards if path.name not in index.shards]
    if unknown:
        raise DataError(
            f"{folder} has {len(unknown)} shards that its {INDEX} does not list, such as {unknown[0]}; remove "
            f"{INDEX}, and sfsc-train shards {folder} writes it anew"
        )
    sizes = {path.name: path.stat().st_size for path in shards}
    images: list[Listed] = []
    for name in sorted(index.shards):
        shard = index.shards[name]
        if name not in sizes:
            troubles.add(f"shards of {INDEX} that are not there", name)
        elif sizes[name] != shard.bytes:
            troubles.add(
                f"shards that were truncated or replaced since {INDEX} was written",
                name,
                f"has {sizes[name]} bytes, not {shard.bytes}",
            )
        else:
            images += listed_in(folder, shard)
    return images


def _without_copies(images: Sequence[Listed], troubles: Counted) -> list[Listed]:
    """The images, each name once: the first of it."""
    seen: set[str] = set()
    kept = []
    for one in images:
        if one.name in seen:
            troubles.add("images whose name is in the shards more than once", str(one.path))
        else:
            seen.add(one.name)
            kept.append(one)
    return kept

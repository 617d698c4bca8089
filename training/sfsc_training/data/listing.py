"""From listed images to a data set: what cannot be used, the division into splits, and the roles.

Readers of folders and lists end here. What is wrong with an image, an identity or the division is counted and
named; `data.skip_unreadable` decides whether it is left out or refused.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset, Split, content_digest, digest
from sfsc_training.data.division import Division, Part, assign
from sfsc_training.data.findings import Finding, refuse_or_leave_out
from sfsc_training.data.member import ImageFile
from sfsc_training.errors import DataError

__all__ = ["FEWEST_IMAGES", "Listed", "Listing", "check_given", "make_dataset"]

FEWEST_IMAGES = 2  # of an identity: one to search with and one to find
_PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Listed:
    """One image. `name`: path below the data folder; `part`: the split it is listed in; None: the seed decides."""

    path: ImageFile
    name: str
    identity: str
    part: Part | None = None
    camera: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a reader found. `source`: folder or list; `found`: what cannot be used; `notes`: what else to say."""

    source: Path
    images: Sequence[Listed]
    found: Sequence[Finding] = ()
    notes: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class _Image:
    listed: Listed
    content: str
    part: Part


def check_given(source: Path, listed: Sequence[Listed], every: str) -> None:
    """Raises DataError unless all images have a camera or none has, and the same for their split.

    Args:
        every: what each of them must have it in, such as `every line`.
    """
    for name, column in (("camera", "camera"), ("part", "split")):
        given = sum(getattr(one, name) is not None for one in listed)
        if given not in (0, len(listed)):
            raise DataError(
                f"{source}: {column} must be given in {every} or in none; found it in {given} of {len(listed)}"
            )


def make_dataset(listing: Listing, section: DataSection, seed: int, earlier: Division | None = None) -> Dataset:
    """Read all images once for their digests, divide the identities, and give every image its role.

    Args:
        earlier: the division of an earlier training, which is kept.

    Raises:
        DataError: something cannot be used and is not to be left out; a new training has fewer than 2
            identities; the test has no identity of its own, or no image that could find another one of its
            identity; a split has no queries or no gallery.
    """
    source, listed = listing.source, listing.images
    contents, unreadable = _contents(listed)
    images = [one for one in listed if one.name in contents]
    few = _few(images)
    images = [one for one in images if one.identity not in few]
    first = _first_part(images)
    in_both = {one.identity for one in images if one.part != first[one.identity]}
    _check_own_identities(source, images, first)
    images = [one for one in images if one.part == first[one.identity]]
    parts = assign(dict(sorted(first.items())), section, seed, earlier)
    divided = [_Image(one, contents[one.name], parts[one.identity]) for one in images]
    copies = _copies(divided)
    divided = [image for image in divided if image.listed.name not in copies]
    left_alone = _few(image.listed for image in divided)
    divided = [image for image in divided if image.listed.identity not in left_alone]
    troubles = (
        *listing.found,
        unreadable,
        Finding(f"identities with fewer than {FEWEST_IMAGES} images", tuple(sorted({*few, *left_alone}))),
        Finding("identities with images in more than one split", tuple(sorted(in_both))),
        Finding("images whose copy is in another split", tuple(sorted(copies))),
    )
    left_out = refuse_or_leave_out(source, troubles, leave_out=section.skip_unreadable)
    if earlier is None or earlier.others is None:
        _check_enough(source, divided, left_out)
    cameras = _camera_numbers(divided, section.camera)
    train, validation, test = (
        _split(source, [image for image in divided if image.part == part], section, cameras) for part in _PARTS
    )
    splits = (train, validation, test)
    if test.paths and not len(test.searchable()):
        raise DataError(f"{source}: no image of the test has another one of its identity that it could find")
    everything = (*listing.notes, _copies_in(test))
    return Dataset(
        *splits, digest(splits), left_out=left_out, notes=tuple(note for note in everything if note.names)
    )


def _contents(listed: Sequence[Listed]) -> tuple[dict[str, str], Finding]:
    """The digest of every image that can be read, by name; and the others."""
    contents: dict[str, str] = {}
    failed: dict[str, str] = {}
    for one in listed:
        try:
            contents[one.name] = content_digest(one.path)
        except DataError as error:
            failed[one.name] = str(error).removeprefix(f"{one.path} ")
    why = next(iter(failed.values()), "")
    return contents, Finding("images that cannot be read", tuple(failed), why)


def _few(images: Iterable[Listed]) -> set[str]:
    counts: dict[str, int] = {}
    for one in images:
        counts[one.identity] = counts.get(one.identity, 0) + 1
    return {identity for identity, count in counts.items() if count < FEWEST_IMAGES}


def _first_part(images: Sequence[Listed]) -> dict[str, Part | None]:
    """The part in which each identity is listed; of several the first: train, then validation, then test."""
    parts: dict[str, Part | None] = {}
    for part in reversed((None, *_PARTS)):
        parts |= dict.fromkeys((one.identity for one in images if one.part == part), part)
    return parts


def _check_own_identities(source: Path, images: Sequence[Listed], first: Mapping[str, Part | None]) -> None:
    test = {one.identity for one in images if one.part == "test"}
    if test and all(first[identity] != "test" for identity in test):
        raise DataError(
            f"{source}: all {len(test)} identities of the test are in train, too; the test needs identities that "
            "were never trained on: put all images of an identity into one folder, without train and test above"
        )


def _check_enough(source: Path, images: Sequence[_Image], left_out: Sequence[Finding]) -> None:
    train, validation, test = (
        len({image.listed.identity for image in images if image.part == part}) for part in _PARTS
    )
    if train < 2:
        because = f" ({'; '.join(map(str, left_out))})" if left_out else ""
        raise DataError(
            f"{source}: training needs at least 2 identities; found {train} beside {validation} for validation "
            f"and {test} for the test{because}"
        )


def _copies(images: Sequence[_Image]) -> set[str]:
    """Names of the images whose content is also in the split before: train, then validation, then test."""
    seen: dict[str, Part] = {}
    copies = set()
    for part in _PARTS:
        for image in images:
            if image.part == part and seen.setdefault(image.content, image.part) != part:
                copies.add(image.listed.name)
    return copies


def _copies_in(test: Split) -> Finding:
    seen: set[str] = set()
    copies = []
    for name, content in zip(test.names, test.contents, strict=True):
        if content in seen:
            copies.append(name)
        seen.add(content)
    return Finding("test images that are copies of other test images, counted as hits", tuple(copies))


def _split(
    source: Path, images: Sequence[_Image], section: DataSection, cameras: Mapping[str, int] | None
) -> Split:
    images = sorted(images, key=lambda image: (image.listed.identity, Path(image.listed.name)))
    identities = sorted({image.listed.identity for image in images})
    numbers = {identity: number for number, identity in enumerate(identities)}
    listed = [image.listed for image in images]
    query, gallery = _roles([one.path for one in listed], section)
    if images and not (len(query) and len(gallery)):
        raise DataError(
            f"{source}: data.query = {section.query!r} and data.gallery = {section.gallery!r} leave {len(query)} "
            f"queries and {len(gallery)} gallery images of {len(images)}; an empty value lifts the rule, as in "
            "--set data.query="
        )
    return Split(
        tuple(one.path for one in listed),
        tuple(one.name for one in listed),
        tuple(image.content for image in images),
        np.array([numbers[one.identity] for one in listed], dtype=np.int64),
        tuple(identities),
        None if cameras is None else np.array([cameras[one.name] for one in listed], dtype=np.int64),
        query,
        gallery,
    )


def _roles(
    paths: Sequence[ImageFile], section: DataSection
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    everything = np.arange(len(paths), dtype=np.int64)

    def matches(pattern: str) -> npt.NDArray[np.bool_]:
        return np.array([fnmatch.fnmatchcase(path.name, pattern) for path in paths], dtype=np.bool_)

    is_query = matches(section.query) if section.query else None
    if section.gallery:
        is_gallery = matches(section.gallery)
        return everything if is_query is None else everything[is_query], everything[is_gallery]
    if is_query is None:
        return everything, everything
    # With cameras the gallery holds every image: the metrics drop a query's own camera per query.
    return everything[is_query], everything if section.camera else everything[~is_query]


def _camera_numbers(images: Sequence[_Image], pattern: str | None) -> dict[str, int] | None:
    """The number of each image's camera, by image name; None where cameras are unknown."""
    if pattern is None:
        named = {image.listed.name: image.listed.camera for image in images}
    else:
        compiled = _compiled(pattern)
        named = {image.listed.name: _camera(image.listed.path, compiled) for image in images}
    known = sorted({camera for camera in named.values() if camera is not None})
    if not known or None in named.values():
        return None
    numbers = {camera: number for number, camera in enumerate(known)}
    return {name: numbers[camera] for name, camera in named.items() if camera is not None}


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.camera {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise DataError(f"data.camera {pattern!r} must have one group; found {compiled.groups}")
    return compiled


def _camera(path: ImageFile, pattern: re.Pattern[str]) -> str:
    found = pattern.search(path.name)
    if found is None:
        raise DataError(f"data.camera {pattern.pattern!r} does not match the file name {path.name}")
    return found.group(1)

"""Write a listed data set into shards, shard by shard, so that a command that was stopped goes on where it was.

Which image goes into which shard is decided before the first is written. A shard is written under another name,
read back, put in its place and then indexed: a shard without its line in the index is written anew.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sfsc_bundle.atomic_file import replacing
from sfsc_bundle.image_formats import SUFFIXES
from sfsc_training.data.findings import Finding, refuse_or_leave_out
from sfsc_training.data.listing import Listed, Listing
from sfsc_training.data.shards.index import INDEX, Header, appending, indexed, read_index
from sfsc_training.data.shards.reader import TAR, list_shards, tars_in
from sfsc_training.data.shards.scan import Counted, Label, scan
from sfsc_training.errors import DataError, FailedError

__all__ = ["ShardPlan", "index_shards", "plan_shards", "shards_done", "write_shards"]

_ADVICE = "--skip-unreadable leaves it out"
_OVERHEAD = 2048  # bytes that a sample takes in a tar beside its image: two headers, the label, padding


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """`shards`: the images of each, by the name of its file; `sha256`: digest of all that decides them.

    `left_out`: what cannot be used.
    """

    shards: dict[str, Sequence[Listed]]
    sha256: str
    left_out: tuple[Finding, ...]

    @property
    def images(self) -> int:
        """How many images there are in all."""
        return sum(map(len, self.shards.values()))


def plan_shards(listing: Listing, most_bytes: int, *, skip_unreadable: bool) -> ShardPlan:
    """Divide images among shards, in the order of their names.

    Args:
        most_bytes: of a shard, unless one image is larger.

    Raises:
        DataError: something cannot be used and is not to be left out, or nothing is left.
    """
    sizes, unreadable = _sizes(listing.images)
    found = (*listing.found, unreadable)
    left_out = refuse_or_leave_out(listing.source, found, leave_out=skip_unreadable, advice=_ADVICE)
    if not sizes:
        raise DataError(f"{listing.source} has no image that can be read")
    groups: list[list[Listed]] = []
    held, digest = 0, hashlib.sha256(str(most_bytes).encode())
    for one in sorted(listing.images, key=lambda one: one.name):
        if one.name not in sizes:
            continue
        size, changed = sizes[one.name]
        digest.update(json.dumps([one.name, one.identity, one.part, one.camera, size, changed]).encode())
        if not groups or held + size + _OVERHEAD > most_bytes:
            groups.append([])
            held = 0
        groups[-1].append(one)
        held += size + _OVERHEAD
    names = (f"shard-{number:06d}{TAR}" for number in range(len(groups)))
    return ShardPlan(dict(zip(names, groups, strict=True)), digest.hexdigest(), left_out)


def _sizes(images: Sequence[Listed]) -> tuple[dict[str, tuple[int, int]], Finding]:
    """(bytes, time of the last change) of every file that can be read, by name; and the others."""
    sizes: dict[str, tuple[int, int]] = {}
    failed: dict[str, str] = {}
    for one in images:
        assert isinstance(one.path, Path)
        try:
            found = one.path.stat()
        except OSError as error:
            failed[one.name] = str(error.strerror)
            continue
        if not stat.S_ISREG(found.st_mode):
            failed[one.name] = "is no file"
        elif not os.access(one.path, os.R_OK):
            failed[one.name] = "may not be read"
        else:
            sizes[one.name] = found.st_size, found.st_mtime_ns
    return sizes, Finding("images that cannot be read", tuple(failed), next(iter(failed.values()), ""))


def shards_done(to: Path, plan: ShardPlan) -> set[str]:
    """The shards of a plan that are in a folder already.

    Raises:
        DataError: the folder holds something else, or shards of another plan.
    """
    if to.exists() and not to.is_dir():
        raise DataError(f"--to must be a folder; {to} is a file")
    index = read_index(to) if to.is_dir() else None
    if index is None:
        if to.is_dir() and any(to.iterdir()):
            raise DataError(f"--to must be a new or empty folder, or one with shards; {to} holds other files")
        return set()
    if index.header.plan != plan.sha256:
        raise DataError(
            f"{to} holds shards of other images, or of these before they changed, or of another --shard-mib; give "
            "another --to"
        )
    return {
        name
        for name, shard in index.shards.items()
        if (to / name).is_file() and (to / name).stat().st_size == shard.bytes
    }


def write_shards(plan: ShardPlan, to: Path, done: set[str], advance: Callable[[], None]) -> None:
    """Write the shards that are not done yet.

    Args:
        advance: called after each image.

    Raises:
        DataError: an image can no longer be read.
        FailedError: a shard does not read back as it was written.
        OSError: the disk refused.
    """
    to.mkdir(parents=True, exist_ok=True)
    first = 0
    with appending(to, Header(shards=tuple(plan.shards), plan=plan.sha256)) as index:
        for name, images in plan.shards.items():
            if name not in done:
                written = _write(to / name, images, first, advance)
                index.add(indexed(to / name, _read_back(to / name, written)))
            first += len(images)


def _write(shard: Path, images: Sequence[Listed], first: int, advance: Callable[[], None]) -> dict[str, str]:
    """Write one shard; returns name → sha256 of its images."""
    written = {}
    with replacing(shard) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, one in enumerate(images, first):
            try:
                content = one.path.read_bytes()
            except OSError as error:
                raise DataError(f"{one.path} cannot be read: {error.strerror}") from error
            label = Label(identity=one.identity, camera=one.camera, split=one.part, name=one.name)
            suffix = PurePosixPath(one.name).suffix.lower()
            # A list may name files of any suffix; what an image is, its content says.
            _add(archive, f"{number:09d}{suffix if suffix in SUFFIXES else SUFFIXES[0]}", content)
            _add(archive, f"{number:09d}.json", label.model_dump_json(exclude_none=True).encode())
            written[one.name] = hashlib.sha256(content).hexdigest()
            advance()
    return written


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner, time and mode are constants, so the same images make the same shard
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _read_back(shard: Path, written: dict[str, str]) -> list[Listed]:
    troubles = Counted()
    images = scan(shard, troubles, Counted())
    if (
        troubles.found
        or {one.name: one.path.sha256 for one in images if not isinstance(one.path, Path)} != written
    ):
        raise FailedError(f"{shard} does not read back as it was written; the disk or the memory is damaged")
    return images


def index_shards(folder: Path, *, skip_unreadable: bool, advance: Callable[[], None]) -> Listing:
    """Write the index of shards that were there before; the images in it are those that can be used.

    Args:
        advance: called after each shard.

    Raises:
        DataError: the folder has an index already or no usable shard, or something cannot be used and is not to be
            left out.
        OSError: the disk refused.
    """
    index = read_index(folder)
    if index is not None and (index.header.plan is not None or not index.missing):
        raise DataError(f"{folder} has an {INDEX} already; remove it to have it written anew")
    (folder / INDEX).unlink(missing_ok=True)  # one that was interrupted
    listing = list_shards(folder, advance)
    refuse_or_leave_out(folder, listing.found, leave_out=skip_unreadable, advice=_ADVICE)
    by_shard: dict[Path, list[Listed]] = {path: [] for path in tars_in(folder)}
    for one in listing.images:
        assert not isinstance(one.path, Path)
        by_shard[one.path.shard].append(one)
    with appending(folder, Header(shards=tuple(path.name for path in by_shard))) as appender:
        for path, images in by_shard.items():
            appender.add(indexed(path, images))
    return listing

"""The images of one shard: a tar file in the layout of WebDataset, read from end to end once.

Members whose names are the same up to the first dot of the file name (KEY) are one sample: the encoded image
(`KEY.jpg`, or any other format that the project reads), and what it is, as `KEY.json` or `KEY.cls`:

    KEY.json   {"identity": …, "camera": …, "split": "train" | "validation" | "test", "name": …}, the last three
               optional, others ignored; `name` is the image's path below the data folder that it came from
    KEY.cls    the identity alone, as text

Nothing is ever unpacked, so a name or a link cannot lead anywhere; those that would are counted all the same.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.image_formats import SUFFIXES
from sfsc_training.data.division import Part
from sfsc_training.data.findings import Finding
from sfsc_training.data.image_name import Identity, ImageName, check_name
from sfsc_training.data.listing import Listed
from sfsc_training.data.member import Member

__all__ = ["Counted", "Label", "scan"]

_KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # as WebDataset divides a name
_LONGEST_LABEL = 2**20  # bytes
_CHUNK = 2**20
_BLOCK = tarfile.BLOCKSIZE


class Label(BaseModel):
    """What KEY.json says of an image."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    identity: Identity | None = None
    camera: str | None = None
    split: Part | None = None
    name: ImageName | None = None

    @field_validator("split", mode="before")
    @classmethod
    def _spelt(cls, value: object) -> object:
        return "validation" if value in ("val", "valid") else value


@dataclass(slots=True)
class Counted:
    """Troubles and notes by kind: the names that each is about, and why the first is."""

    found: dict[str, tuple[list[str], str]] = field(default_factory=dict)

    def add(self, what: str, name: str, why: str = "") -> None:
        """Count one more of a kind."""
        self.found.setdefault(what, ([], why))[0].append(name)

    def findings(self) -> tuple[Finding, ...]:
        """All kinds."""
        return tuple(Finding(what, tuple(names), why) for what, (names, why) in self.found.items())


@dataclass(frozen=True, slots=True)
class _Image:
    member: str
    offset: int
    size: int
    sha256: str


@dataclass(slots=True)
class _Sample:
    images: list[_Image] = field(default_factory=list)
    label: Label | None = None
    identity: str | None = None


def scan(shard: Path, troubles: Counted, notes: Counted) -> list[Listed]:
    """The images of a shard that have an identity; what else is in it is counted.

    Args:
        troubles: gets what cannot be used.
        notes: gets what is ignored.
    """
    samples: dict[str, _Sample] = {}
    try:
        for descriptor, info in _members(shard, troubles, notes):
            _sort(shard, descriptor, info, samples, troubles, notes)
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        troubles.add("shards that are damaged, truncated or compressed", shard.name, str(error))
    return list(_with_identity(shard, samples, troubles))


def _members(shard: Path, troubles: Counted, notes: Counted) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """The regular files in a tar, each name once, with a descriptor to read them by."""
    seen: set[str] = set()
    with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        before, length = -1, os.fstat(file.fileno()).st_size
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            if archive.offset <= before:
                raise tarfile.ReadError(f"a member of negative length at byte {info.offset}")
            before = archive.offset
            if info.isreg() and info.offset_data + info.size > length:
                raise tarfile.ReadError(f"ends at byte {length}, within {info.name}")
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                notes.add("links and devices in shards, ignored", _shown(shard, info.name))
            elif (why := _wrong_name(info.name)) is not None:
                troubles.add("members of shards whose name leads out of a folder", _shown(shard, info.name), why)
            elif info.name in seen:
                troubles.add("members that are in a shard more than once", _shown(shard, info.name))
            else:
                seen.add(info.name)
                yield file.fileno(), info
        _check_end(os.pread(file.fileno(), _BLOCK, before if before >= 0 else 0), max(before, 0))


def _check_end(block: bytes, offset: int) -> None:
    """Raises ReadError unless a tar ends as it should: tarfile takes a damaged header for the end."""
    if not block:
        raise tarfile.ReadError(f"ends at byte {offset} without the empty blocks that close a tar")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"the header at byte {offset} is damaged")


def _wrong_name(name: str) -> str | None:
    try:
        check_name(name)
        name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    except ValueError as error:
        return str(error)
    return None


def _sort(
    shard: Path,
    descriptor: int,
    info: tarfile.TarInfo,
    samples: dict[str, _Sample],
    troubles: Counted,
    notes: Counted,
) -> None:
    """Add one member to its sample."""
    divided = _KEY.fullmatch(info.name)
    key, extension = ("", "") if divided is None else (divided[1], divided[2].lower())
    if f".{extension.rpartition('.')[2]}" in SUFFIXES:
        image = _Image(info.name, info.offset_data, info.size, _digest(descriptor, info))
        samples.setdefault(key, _Sample()).images.append(image)
    elif extension not in ("json", "cls"):
        notes.add("members of shards that are neither image nor .json or .cls, ignored", _shown(shard, info.name))
    elif info.size > _LONGEST_LABEL:
        troubles.add("labels that cannot be used", _shown(shard, info.name), f"has {info.size} bytes")
    else:
        content = os.pread(descriptor, info.size, info.offset_data)
        sample = samples.setdefault(key, _Sample())
        try:
            if extension == "json":
                sample.label = Label.model_validate_json(content)
            else:
                sample.identity = Label(identity=content.decode().strip()).identity
        except ValidationError as error:
            troubles.add("labels that cannot be used", _shown(shard, info.name), str(first_broken_rule(error)))
        except UnicodeDecodeError:
            troubles.add("labels that cannot be used", _shown(shard, info.name), "it is not UTF-8")


def _digest(descriptor: int, info: tarfile.TarInfo) -> str:
    digest = hashlib.sha256()
    for start in range(0, info.size, _CHUNK):
        digest.update(os.pread(descriptor, min(_CHUNK, info.size - start), info.offset_data + start))
    return digest.hexdigest()


def _with_identity(shard: Path, samples: dict[str, _Sample], troubles: Counted) -> Iterator[Listed]:
    for sample in samples.values():
        label = sample.label or Label()
        identity = label.identity or sample.identity
        for image in sample.images:
            if identity is None:
                troubles.add("images without an identity in KEY.json or KEY.cls", _shown(shard, image.member))
                continue
            name = label.name or str(PurePosixPath(image.member))
            member = Member(shard, name, image.offset, image.size, image.sha256)
            yield Listed(member, name, identity, label.split, label.camera)


def _shown(shard: Path, member: str) -> str:
    return f"{shard.name}: {os.fsencode(member).decode('utf-8', 'backslashreplace')}"

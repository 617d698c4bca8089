"""SHARDS/index.jsonl: where each image lies in the shards, so that none has to be read to find that out.

- The first line names all shards; then there is a line for each, in any order, with its images.
- A line is appended when its shard is whole and on disk. What a kill leaves of a last line is ignored and cut.
- The index says what an image is (its digest); a shard that no longer holds it there is damaged.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sfsc_bundle.atomic_file import write_file
from sfsc_bundle.broken_rule import first_broken_rule
from sfsc_bundle.manifest import Sha256
from sfsc_training.data.division import Part
from sfsc_training.data.image_name import Identity, ImageName
from sfsc_training.data.listing import Listed
from sfsc_training.data.member import Member
from sfsc_training.errors import DataError

__all__ = ["INDEX", "Header", "Index", "IndexedShard", "appending", "indexed", "listed_in", "read_index"]

INDEX = "index.jsonl"


def _file_name(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"a shard must have the name of a file, found {name!r}")
    return name


ShardName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_file_name)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Line):
    """`shards`: the names of all; `plan`: digest of what is written into them; None: they were there before."""

    format: Literal[1] = 1
    shards: tuple[ShardName, ...]
    plan: Sha256 | None = None


class IndexedImage(_Line):
    """`offset`, `size`: the bytes of the shard that are the encoded image."""

    name: ImageName
    identity: Identity
    camera: str | None = None
    split: Part | None = None
    offset: int = Field(ge=0)
    size: int = Field(ge=0)
    sha256: Sha256


class IndexedShard(_Line):
    """A shard of `bytes` bytes with its images."""

    shard: ShardName
    bytes: int = Field(ge=0)
    images: tuple[IndexedImage, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`shards`: by name, those that have a line."""

    header: Header
    shards: Mapping[str, IndexedShard]

    @property
    def missing(self) -> list[str]:
        """The shards that have no line yet."""
        return [name for name in self.header.shards if name not in self.shards]


def read_index(folder: Path) -> Index | None:
    """The index of a folder of shards; None where it has none. Raises DataError where it cannot be used."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            lines = list(_whole_lines(path, file))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    header = next((line for line in lines if isinstance(line, Header)), None)
    if header is None:
        raise DataError(f"{path} is empty; remove it, and sfsc-train shards {folder} writes it anew")
    return Index(header, {line.shard: line for line in lines if isinstance(line, IndexedShard)})


def _whole_lines(path: Path, file: BinaryIO) -> Iterator[Header | IndexedShard]:
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        model = Header if number == 1 else IndexedShard
        try:
            yield model.model_validate_json(line)
        except ValidationError as error:
            raise DataError(
                f"{path}, line {number}: cannot be used: {first_broken_rule(error)}; remove it, and sfsc-train "
                f"shards {path.parent} writes it anew"
            ) from error


@contextmanager
def appending(folder: Path, header: Header) -> Iterator["Appender"]:
    """Begin the index of a folder, or go on with the one in it, which must have the same header.

    Raises:
        OSError: the disk refused.
    """
    path = folder / INDEX
    if not path.exists() or b"\n" not in path.read_bytes():
        write_file(path, header.model_dump_json().encode() + b"\n")
    with path.open("r+b") as file:
        file.truncate(_end_of_whole_lines(file))
        file.seek(0, os.SEEK_END)
        yield Appender(file)


class Appender:
    """Adds the lines of shards to an index."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, shard: IndexedShard) -> None:
        """Append the line of a shard, durably. Raises OSError."""
        self._file.write(shard.model_dump_json(exclude_none=True).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _end_of_whole_lines(file: BinaryIO) -> int:
    end = 0
    for line in file:
        end += len(line) if line.endswith(b"\n") else 0
    return end


def listed_in(folder: Path, shard: IndexedShard) -> list[Listed]:
    """The images of a shard."""
    path = folder / shard.shard
    return [
        Listed(
            Member(path, image.name, image.offset, image.size, image.sha256),
            image.name,
            image.identity,
            image.split,
            image.camera,
        )
        for image in shard.images
    ]


def indexed(shard: Path, images: Sequence[Listed]) -> IndexedShard:
    """The line of a shard with these images."""
    return IndexedShard(
        shard=shard.name,
        bytes=shard.stat().st_size,
        images=tuple(
            IndexedImage(
                name=one.name,
                identity=one.identity,
                camera=one.camera,
                split=one.part,
                offset=one.path.offset,
                size=one.path.size,
                sha256=one.path.sha256,
            )
            for one in images
            if isinstance(one.path, Member)
        ),
    )

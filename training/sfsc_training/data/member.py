"""Where an encoded image lies: in a file of its own, or as a member of a tar shard.

A member is read by itself, by its offset: any image of any shard costs one `pread`, so that batches can be drawn
from the whole set by the seed, and nothing of a shard is kept in memory but by the operating system's page cache.
The file is opened for every read: a few microseconds beside a millisecond of decoding, and no descriptor that
threads or forked processes would share.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sfsc_training.errors import DataError

__all__ = ["ImageFile", "Member"]


@dataclass(frozen=True, slots=True)
class Member:
    """One image in a shard. `path`: its name as that of a file below a data folder; `sha256`: of its content."""

    shard: Path
    path: str
    offset: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    def read_bytes(self) -> bytes:
        """The encoded image.

        Raises:
            DataError: the shard holds something else there than when it was indexed.
            OSError: the shard cannot be read.
        """
        descriptor = os.open(self.shard, os.O_RDONLY)
        try:
            content = os.pread(descriptor, self.size, self.offset)
        finally:
            os.close(descriptor)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(
                f"{self} cannot be read: the shard is damaged, or was replaced after it was indexed "
                f"(sfsc-train shards {self.shard.parent} indexes it anew)"
            )
        return content

    def __str__(self) -> str:
        """`SHARDS/shard-000001.tar: train/a/1.jpg`."""
        return f"{self.shard}: {self.path}"


ImageFile = Path | Member

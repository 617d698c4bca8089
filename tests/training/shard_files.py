"""Shards of small images for tests, and what two data sets have in common."""

import io
import tarfile

import numpy as np

from sfsc_training.config import DataSection
from tests.training.conftest import said

STRICT = DataSection(height=32, width=32, validation_share=0.25)
LENIENT = STRICT.model_copy(update={"skip_unreadable": True})
UNCACHED = STRICT.model_copy(update={"max_cache_gib": 1e-9})


def write(data, to, *words):
    return said("shards", data, "--to", to, *words)


def pack(path, members):
    """A tar of (name, content) or TarInfo."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(images, count=4, first=0):
    """Identities a, b, … of three images each, in WebDataset's layout."""
    for number in range(3 * count):
        key = f"{first + number:04d}"
        yield f"{key}.png", images[first + number]
        yield f"{key}.cls", "abcdefgh"[number // 3].encode()


def assert_same_data(one, other):
    assert one.sha256 == other.sha256
    for name, split in one.splits.items():
        there = other.splits[name]
        assert (split.names, split.contents, split.identities) == (there.names, there.contents, there.identities)
        for field in ("classes", "query", "gallery"):
            assert np.array_equal(getattr(split, field), getattr(there, field))
        assert (split.cameras is None) == (there.cameras is None)
        assert split.cameras is None or np.array_equal(split.cameras, there.cameras)

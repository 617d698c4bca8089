"""Images that several processes share: nothing that an item refers to is ever missing."""

import os
from pathlib import Path

import pytest

from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.milvus.images import GRACE_S, SharedImages, digest_of

DATA = b"an image"
DIGEST = digest_of(DATA)


@pytest.fixture
def used() -> set[str]:
    """The digests that items refer to."""
    return set()


@pytest.fixture
def images(tmp_path: Path, used: set[str]) -> SharedImages:
    return SharedImages(tmp_path / "images", used.intersection)


def age(images: SharedImages) -> None:
    for path in (images.folder / "removed").iterdir():
        os.utime(path, (0, path.stat().st_mtime - GRACE_S - 1))


def test_what_was_stored_is_read_and_stored_once(images: SharedImages) -> None:
    images.store({DIGEST: DATA})
    images.store({DIGEST: DATA})
    assert images.read(DIGEST) == DATA
    assert [path.name for path in images.folder.glob("??/??/*")] == [DIGEST]


def test_an_unused_image_is_deleted_after_the_grace(images: SharedImages) -> None:
    images.store({DIGEST: DATA})
    images.set_aside_unused([DIGEST])
    images.delete_set_aside()
    assert images.read(DIGEST) == DATA
    age(images)
    images.delete_set_aside()
    with pytest.raises(FileNotFoundError):
        images.read(DIGEST)


def test_an_image_that_came_into_use_is_put_back(images: SharedImages, used: set[str]) -> None:
    images.store({DIGEST: DATA})
    images.set_aside_unused([DIGEST])
    used.add(DIGEST)  # a change that had found the file in its place
    age(images)
    images.delete_set_aside()
    assert images.read(DIGEST) == DATA
    images.set_aside_unused([DIGEST])
    assert (images.folder / DIGEST[:2] / DIGEST[2:4] / DIGEST).exists()


def test_an_image_that_is_stored_anew_outlives_the_one_set_aside(images: SharedImages) -> None:
    images.store({DIGEST: DATA})
    images.set_aside_unused([DIGEST])
    images.store({DIGEST: DATA})
    age(images)
    images.delete_set_aside()
    assert images.read(DIGEST) == DATA


def test_a_damaged_image_is_not_served(images: SharedImages) -> None:
    images.store({DIGEST: DATA})
    next(images.folder.glob("??/??/*")).write_bytes(b"another")
    with pytest.raises(StoreFailedError, match="damaged"):
        images.read(DIGEST)
    images.store({DIGEST: DATA})
    assert images.read(DIGEST) == DATA

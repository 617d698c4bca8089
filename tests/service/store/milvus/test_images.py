"""Images that several processes share: nothing that an item refers to is ever missing.

Held to by a folder and by an object store alike.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.milvus.image_place import ImagePlace
from sfsc_service.store.milvus.images import GRACE_S, SharedImages, digest_of, open_place
from tests.service.store.object_store import BUCKET, S3Server, aws_settings, in_environment, need_s3, s3_server

DATA = b"an image"
DIGEST = digest_of(DATA)
IN_PLACE = f"{DIGEST[:2]}/{DIGEST[2:4]}/{DIGEST}"


@dataclass
class World:
    """A place, what is asked about it from outside, and what stands for Milvus and for time.

    `names`: the images that are there, in their place and set aside. `used`: the digests that items refer to.
    """

    files: ImagePlace
    put: Callable[[str, bytes], object]
    names: Callable[[], set[str]]
    used: set[str] = field(default_factory=set)
    now: float = 0.0

    def process(self) -> SharedImages:
        """The images as one more process has them."""
        return SharedImages(self.files, self.used.intersection, lambda: self.now)

    def wait_out_the_grace(self, images: SharedImages) -> None:
        images.tidy()
        self.now += GRACE_S
        images.tidy()


def in_folder(folder: Path) -> World:
    def put(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)

    def names() -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    return World(open_place(folder), put, names)


@pytest.fixture(scope="module")
def in_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, ImagePlace]]:
    need_s3()
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server, in_environment(aws_settings(server.address)):
        files = open_place(f"s3://{BUCKET}/a/prefix/")
        yield server, files
        files.close()


@pytest.fixture(params=["folder", "s3"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "folder":
        return in_folder(tmp_path / "images")
    server, files = request.getfixturevalue("in_s3")
    server.empty()
    return World(
        files,
        lambda name, content: server.put(f"a/prefix/{name}", content),
        lambda: {name.removeprefix("a/prefix/") for name in server.names()},
    )


def store(images: SharedImages, data: bytes = DATA) -> None:
    with images.storing({digest_of(data): data}):
        pass


def set_aside(images: SharedImages) -> None:
    images.may_be_unused([DIGEST])
    images.tidy()


def test_what_was_stored_is_read_by_all_and_stored_once(world: World) -> None:
    one, other = world.process(), world.process()
    store(one)
    store(other)
    assert one.read(DIGEST) == other.read(DIGEST) == DATA
    assert world.names() == {IN_PLACE}
    assert one.fault() is None
    assert one.free_bytes > 0


def test_many_at_once_are_all_there(world: World) -> None:
    images = world.process()
    contents = {digest_of(data): data for data in (b"%d" % n for n in range(20))}
    with images.storing(contents):
        assert {digest: images.read(digest) for digest in contents} == contents


def test_an_unused_image_is_deleted_after_the_grace_by_whoever_looks(world: World) -> None:
    one, other = world.process(), world.process()
    store(one)
    set_aside(one)
    assert IN_PLACE not in world.names()
    assert one.read(DIGEST) == other.read(DIGEST) == DATA
    other.tidy()
    world.now += GRACE_S - 1
    other.tidy()
    assert other.read(DIGEST) == DATA
    world.now += GRACE_S / 4
    other.tidy()
    assert world.names() == set()
    with pytest.raises(FileNotFoundError):
        one.read(DIGEST)
    one.tidy()  # another one was faster


def test_a_process_that_has_just_started_waits_out_a_grace_of_its_own(world: World) -> None:
    one = world.process()
    store(one)
    set_aside(one)
    world.now += 10 * GRACE_S
    world.process().tidy()
    assert one.read(DIGEST) == DATA


def test_an_image_that_came_into_use_is_put_back(world: World) -> None:
    images = world.process()
    store(images)
    set_aside(images)
    world.used.add(DIGEST)  # a change that had found it in its place
    world.wait_out_the_grace(images)
    assert world.names() == {IN_PLACE}
    set_aside(images)
    assert images.read(DIGEST) == DATA
    assert world.names() == {IN_PLACE}


def test_an_image_that_is_stored_anew_outlives_the_one_set_aside(world: World) -> None:
    images = world.process()
    store(images)
    set_aside(images)
    store(images)
    world.wait_out_the_grace(images)
    assert images.read(DIGEST) == DATA


def test_an_image_that_is_set_aside_anew_is_not_deleted_with_the_one_set_aside_before(world: World) -> None:
    one, other = world.process(), world.process()
    store(one)
    set_aside(one)
    world.now += GRACE_S - 1
    store(other)
    set_aside(other)
    world.now += 1
    one.tidy()
    assert one.read(DIGEST) == DATA
    assert len(world.names()) == 1
    world.wait_out_the_grace(one)
    assert world.names() == set()


def test_the_images_of_a_change_that_fails_may_be_unused(world: World) -> None:
    images = world.process()
    with pytest.raises(ZeroDivisionError), images.storing({DIGEST: DATA}):
        _ = 1 / 0
    world.wait_out_the_grace(images)
    assert world.names() == set()


def test_what_could_not_be_set_aside_is_tried_again(world: World) -> None:
    images = world.process()
    store(images)
    images.may_be_unused([DIGEST])
    ask, images._used = images._used, lambda _: 1 // 0  # type: ignore[return-value,assignment]
    with pytest.raises(ZeroDivisionError):
        images.tidy()
    images._used = ask
    world.wait_out_the_grace(images)
    assert world.names() == set()


def test_many_are_deleted_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.store.milvus.images._AT_ONCE", 2)
    images = world.process()
    contents = {digest_of(data): data for data in (b"%d" % n for n in range(5))}
    with images.storing(contents):
        images.may_be_unused(contents)
    left = []
    for _ in range(3):
        images.tidy()
        left.append(sum(not name.startswith("removed/") for name in world.names()))
    assert left == [3, 1, 0]
    world.now += GRACE_S / 4
    images.tidy()
    world.now += GRACE_S
    left = []
    for _ in range(3):
        images.tidy()
        left.append(len(world.names()))
    assert left == [3, 1, 0]


def test_a_damaged_image_is_not_served_and_mended_when_it_is_stored_again(world: World) -> None:
    images = world.process()
    store(images)
    world.put(IN_PLACE, b"another")
    with pytest.raises(StoreFailedError, match="damaged"):
        images.read(DIGEST)
    store(images)
    assert images.read(DIGEST) == DATA


def test_a_folder_that_is_gone_or_full_is_a_failure_of_the_store(tmp_path: Path) -> None:
    world = in_folder(tmp_path / "images")
    images = world.process()
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    fault = images.fault()
    assert fault is not None
    assert fault.cause == "folder_gone"
    (tmp_path / "images").write_bytes(b"")
    for call in (lambda: store(images), lambda: images.read(DIGEST)):
        with pytest.raises(StoreFailedError, match=r"images cannot be (stored|read) \(Not a directory\)"):
            call()

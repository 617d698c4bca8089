"""Images that all processes of a gallery share, in a folder or an object store, each by the sha256 of its content.

Invariants:
- `storing` begins when the images are durable: an item that is written within never refers to a missing image.
- An image that no item seems to refer to is first set aside, where it can still be read. Who has seen it there for
  `GRACE_S` deletes it unless an item refers to it by then: every change that had found the image in its
  place, and so did not write it, has ended. No clock of another machine counts.
- What is set aside has a name of its own each time: an image that is set aside anew is not deleted with one that
  was set aside before.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.fault import StoreFault
from sfsc_service.store.milvus.folder_images import FolderImages
from sfsc_service.store.milvus.image_place import ImagePlace, digest_in
from sfsc_service.store.milvus.object_images import ObjectImages

__all__ = ["GRACE_S", "SharedImages", "digest_of", "open_place"]

GRACE_S = 120.0
"""Seconds; more than a change of the gallery may take."""
_AT_ONCE = 500
"""Images that one look moves at most: the thread that looks has other work, too."""

_log = logging.getLogger(__name__)


def digest_of(data: bytes) -> str:
    """The sha256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def open_place(place: Path | str) -> ImagePlace:
    """A folder, or the object store at a URL, SCHEME://…. Raises OSError, OpenRefusedError, StoreFailedError."""
    return ObjectImages(place) if isinstance(place, str) and "://" in place else FolderImages(Path(place))


class SharedImages:
    """`used` tells which of some digests an item refers to; `clock`: seconds, of this process alone.

    Raises what `place` and `used` raise, if no more is said.
    """

    def __init__(
        self, place: ImagePlace, used: Callable[[list[str]], set[str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._place, self._used, self._clock = place, used, clock
        self._lock = threading.Lock()
        self._unused = set[str]()
        """Digests of images that may not be referred to any more."""
        self._seen = dict[str, float]()
        """Since when this process has seen what is set aside, by name."""
        self._next_look = clock()

    @contextmanager
    def storing(self, contents: Mapping[str, bytes]) -> Iterator[None]:
        """Keep images, by digest, and change what refers to them within; if that fails, they may be unused.

        Raises StoreFailedError.
        """
        try:
            with _failing("stored", ()):
                self._place.write(contents)
            yield
        except BaseException:
            self.may_be_unused(contents)
            raise

    def read(self, digest: str) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: it was deleted, which may happen between looking up a digest and reading its file.
            StoreFailedError: the file is damaged, or cannot be read.
        """
        with _failing("read", FileNotFoundError):
            data = self._content(digest)
        if digest_of(data) != digest:
            raise StoreFailedError(f"the image {digest} is damaged: its content does not match its digest")
        return data

    def may_be_unused(self, digests: Iterable[str]) -> None:
        """Have `tidy` look whether an item refers to them."""
        with self._lock:
            self._unused.update(digests)

    def tidy(self) -> None:
        """Set aside some that no item refers to; delete or put back some that were set aside for long enough."""
        self._set_aside_unused()
        if self._clock() >= self._next_look:
            self._delete_set_aside()

    def fault(self) -> StoreFault | None:
        """What keeps images from being stored or read, if anything does."""
        return self._place.fault()

    @property
    def free_bytes(self) -> float:
        """What else can be stored; infinity without a bound."""
        return self._place.free_bytes

    def close(self) -> None:
        """Let go of connections."""
        self._place.close()

    def _content(self, digest: str) -> bytes:
        with suppress(FileNotFoundError):
            return self._place.read(digest)
        for name in self._place.names_aside(digest):
            with suppress(FileNotFoundError):
                return self._place.read_aside(name)
        return self._place.read(digest)  # it may have been put back meanwhile

    def _set_aside_unused(self) -> None:
        with self._lock:
            some = set(islice(self._unused, _AT_ONCE))
            self._unused -= some
        try:
            if some:
                self._place.set_aside(some - self._used(list(some)))
        except BaseException:
            self.may_be_unused(some)
            raise

    def _delete_set_aside(self) -> None:
        now = self._clock()
        self._seen = {name: self._seen.get(name, now) for name in self._place.names_aside()}
        old = [name for name, since in self._seen.items() if now - since >= GRACE_S]
        if some := old[:_AT_ONCE]:
            used = self._used(list({digest_in(name) for name in some}))
            self._place.put_back([name for name in some if digest_in(name) in used])
            self._place.delete([name for name in some if digest_in(name) not in used])
        if some == old:
            self._next_look = now + GRACE_S / 4  # an object store asks a price for every look


@contextmanager
def _failing(what: str, passing: type[OSError] | tuple[()]) -> Iterator[None]:
    """Let what a file system raises, but for `passing`, be StoreFailedError."""
    try:
        yield
    except passing:
        raise
    except OSError as error:
        _log.error("images could not be %s: %s", what, error)
        raise StoreFailedError(f"images cannot be {what} ({error.strerror or type(error).__name__})") from error

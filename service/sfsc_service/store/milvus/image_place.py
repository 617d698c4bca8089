"""What shared images need of a place that keeps them, whatever it is."""

from collections.abc import Collection, Mapping
from typing import Protocol

from sfsc_service.store.fault import StoreFault

__all__ = ["ImagePlace", "digest_in"]


def digest_in(name: str) -> str:
    """The digest in the name of a file that is set aside, DIGEST.UNIQUE."""
    return name.partition(".")[0]


class ImagePlace(Protocol):
    """Files by the digest of their content. A file that is set aside has a name of its own each time.

    All raise StoreFailedError or OSError where the place does not answer.
    """

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Keep contents, by digest; durable, whole and seen by all processes when it returns."""

    def read(self, digest: str) -> bytes:
        """The content of a file in its place. Raises FileNotFoundError."""

    def set_aside(self, digests: Collection[str]) -> None:
        """Move files out of their place, those of `digests` that are there."""

    def names_aside(self, digest: str | None = None) -> list[str]:
        """The files that are set aside, in all or of one digest."""

    def read_aside(self, name: str) -> bytes:
        """The content of one of them. Raises FileNotFoundError."""

    def put_back(self, names: Collection[str]) -> None:
        """Move files that are set aside into their place; those that are gone are left out."""

    def delete(self, names: Collection[str]) -> None:
        """Delete files that are set aside, as far as they are still there."""

    def fault(self) -> StoreFault | None:
        """What keeps the place from being used, if anything does; asked several times a second."""

    @property
    def free_bytes(self) -> float:
        """What else it can hold; infinity without a bound. Raises as above."""

    def close(self) -> None:
        """Let go of connections."""

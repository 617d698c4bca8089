"""The store that a command names: that of a data folder, or of a gallery in Milvus."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from sfsc_bundle.local_path import local_path
from sfsc_service.cli.folder import opened
from sfsc_service.errors import StartError
from sfsc_service.lifecycle.milvus_gallery import SCHEME, open_milvus, spaces_in_milvus
from sfsc_service.store.embedded.opening import DATABASE
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.errors import DatabaseLostError, FolderMismatchError
from sfsc_service.store.parquet import Manifest
from sfsc_service.store.protocol import Store

__all__ = ["PLACE", "GalleryPlace", "opened_store"]

PLACE = "the data folder, or milvus://HOST:PORT/DATABASE"


def _checked(place: str) -> str:
    return place if place.startswith(SCHEME) else local_path(place)


GalleryPlace = Annotated[str, AfterValidator(_checked)]
"""PLACE."""


@contextmanager
def opened_store(place: str, image_folder: str | None, wanted: Manifest | None = None) -> Iterator[Store]:
    """The store at `place`, PLACE; closed at the end.

    Args:
        image_folder: where the images of a gallery in Milvus are: a folder, or the URL of an object store.
        wanted: an export whose items are to be put into it; where there is no gallery, one is made for them.

    Raises:
        StartError: of Milvus, the folder of the images or pymilvus is missing.
        FolderMismatchError: the gallery has no space of `wanted`, so that its vectors cannot be compared.
        StoreError: it cannot be opened.
    """
    if place.startswith(SCHEME):
        if image_folder is None:
            raise StartError("image_folder: must be given where the gallery is in Milvus; found none")
        with closing(_opened_in_milvus(place, image_folder, wanted)) as in_milvus:
            yield in_milvus
        return
    folder = Path(place)
    if wanted is not None and not (folder / DATABASE).exists():
        space, *others = wanted.spaces
        EmbeddedStore(folder, space, wanted.dimension, others).close()
    with opened(folder, () if wanted is None else wanted.spaces) as store:
        yield store


def _opened_in_milvus(address: str, images: str, wanted: Manifest | None) -> Store:
    present = spaces_in_milvus(address)
    if present is None:
        if wanted is None:
            raise DatabaseLostError("store: Milvus has no gallery at this address")
        (space, *others), dimension = wanted.spaces, wanted.dimension
        return open_milvus(address, images, None, space, dimension, others)
    spaces, dimension = present
    further = set() if wanted is None else set(wanted.spaces)
    if further and not further & set(spaces):
        rule = f"must hold vectors of the space {' or '.join(sorted(further))}"
        raise FolderMismatchError(f"store: Milvus {rule}; found {', '.join(spaces)}")
    return open_milvus(address, images, None, spaces[0], dimension, {*spaces[1:], *further})

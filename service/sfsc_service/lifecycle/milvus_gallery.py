"""Opening a gallery in Milvus: for a service, and for the commands that export and import it."""

import importlib.util
from collections.abc import Collection

from sfsc_bundle.extras import installing
from sfsc_service.errors import StartError
from sfsc_service.store.milvus.address import MilvusAddress, read_address
from sfsc_service.store.milvus.index_kind import MilvusSearch
from sfsc_service.store.protocol import Store

__all__ = ["SCHEME", "open_milvus", "spaces_in_milvus"]

SCHEME = "milvus://"
_COLLECTION = "sfsc_gallery"


def open_milvus(
    address: str,
    images: str,
    search: MilvusSearch | None,
    space: str,
    dimension: int,
    compatible_with: Collection[str],
) -> Store:
    """The store at milvus://…, as `MilvusStore` opens it; `images`: a folder, or the URL of an object store.

    Raises StartError, StoreError.
    """
    _check_pymilvus()
    from sfsc_service.store.milvus.store import MilvusStore

    return MilvusStore(_address(address), _COLLECTION, images, space, dimension, compatible_with, search=search)


def spaces_in_milvus(address: str) -> tuple[list[str], int] | None:
    """The spaces of the gallery at milvus://…, the one that it was made for first, and its dimension.

    None where there is no gallery. Raises StartError, StoreError.
    """
    _check_pymilvus()
    from sfsc_service.store.milvus.collection import spaces_of

    return spaces_of(_address(address), _COLLECTION)


def _address(text: str) -> MilvusAddress:
    try:
        return read_address(text)
    except ValueError as error:
        raise StartError(f"store: {error}") from None


def _check_pymilvus() -> None:
    if importlib.util.find_spec("pymilvus") is None:
        raise StartError(f"store: milvus:// needs the extra milvus: {installing('milvus')}")

"""The collection of a gallery: its fields, and how it is made or checked at a start.

    id                       VARCHAR, the key
    vector                   float32 [D], compared by inner product; index_kind.py says with which index
    space width reason       VARCHAR
    metadata                 VARCHAR, the JSON text as it was stored
    fields                   JSON, the metadata as filters read it, see filters/sort_keys.py
    image media_type         VARCHAR, the sha256 of the image and its type; empty without one
    created                  INT64, microseconds since 1970, UTC

The properties of the collection say of which schema it is and for which space it was made. A second process that
opens a gallery at the same moment finds it made, or makes it itself.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from sfsc_service.store.errors import FolderMismatchError, OpenRefusedError, StoreFailedError
from sfsc_service.store.filters.milvus import one_of
from sfsc_service.store.milvus.address import MilvusAddress
from sfsc_service.store.milvus.client import MILVUS_ERRORS, CollectionClient, describe_error
from sfsc_service.store.milvus.index_kind import IndexKind, MilvusSearch, check_index, index_for
from sfsc_service.store.protocol import MAX_ID_LENGTH, MAX_METADATA_BYTES

__all__ = ["MAX_FIELDS_BYTES", "check_spaces", "open_collection", "spaces_of"]

MAX_FIELDS_BYTES = 65_536
"""What Milvus takes as JSON at most."""
_GRPC_OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 500,
    # By default, a Milvus that was away for long is found again after two minutes.
    "grpc.max_reconnect_backoff_ms": 2_000,
    # pymilvus pings every ten seconds for ever; servers with gRPC's defaults hang up on that ("too many pings").
    "grpc.keepalive_permit_without_calls": 0,
}
_SCHEMA_VERSION = "1"
_SCHEMA, _SPACE = "sfsc.schema", "sfsc.space"
_TEXTS = {
    "space": 256,
    "width": 16,
    "reason": 16,
    "metadata": MAX_METADATA_BYTES,
    "image": 64,
    "media_type": 129,
}


def open_collection(
    address: MilvusAddress,
    name: str,
    space: str,
    dimension: int,
    spaces: Collection[str],
    search: MilvusSearch | None,
    timeout_s: float,
) -> tuple[CollectionClient, IndexKind]:
    """Connect, make the collection where there is none, and check that it fits; also which index it has.

    Args:
        search: what the index must be good for; None: for anything, and a new one is exact.

    Raises:
        FolderMismatchError: it was made for another schema, dimension, space or kind of search.
        OpenRefusedError: Milvus has no such database, or does not let us in.
        StoreFailedError: Milvus does not answer.
    """
    with _opening(address, timeout_s) as (client, closing):
        if not client.has_collection(name, timeout=timeout_s):
            _create(client, name, space, dimension, index_for(search or "exact"), timeout_s)
        _check_fit(client.describe_collection(name, timeout=timeout_s), address, dimension, spaces)
        index = check_index(_index_type(client, name, index_for(search or "exact"), timeout_s), search)
        client.load_collection(name, timeout=timeout_s)
        closing.pop_all()
    return CollectionClient(client, name, timeout_s), index


def spaces_of(address: MilvusAddress, name: str, timeout_s: float = 10.0) -> tuple[list[str], int] | None:
    """The spaces of a collection, the one that it was made for first, and its dimension; None where there is none.

    Raises as `open_collection`.
    """
    with _opening(address, timeout_s) as (client, _):
        if not client.has_collection(name, timeout=timeout_s):
            return None
        found = client.describe_collection(name, timeout=timeout_s)
        spaces, dimension = [_space(found)], _dimension(found)
        client.load_collection(name, timeout=timeout_s)
        calls = CollectionClient(client, name, timeout_s)
        calls.count(strong=True)
        while others := calls.first_rows(_of_other_spaces(spaces), 1, ["space"]):
            spaces.append(others[0]["space"])
        return spaces, dimension


def check_spaces(client: CollectionClient, address: object, spaces: Collection[str]) -> None:
    """Refuse a gallery with items of other spaces. Raises FolderMismatchError."""
    others = client.first_rows(_of_other_spaces(spaces), 1, ["space"])
    if others:
        rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
        raise FolderMismatchError(f"store: {address} {rule}; found {others[0]['space']}")


@contextmanager
def _opening(address: MilvusAddress, timeout_s: float) -> Iterator[tuple[MilvusClient, ExitStack]]:
    """A client, and what closes it when the block ends. Raises as `open_collection`."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs a traceback for every call that fails
    try:
        with ExitStack() as closing:
            client = MilvusClient(
                address.uri,
                token=address.token,
                db_name=address.database,
                timeout=timeout_s,
                dedicated=True,
                grpc_options=_GRPC_OPTIONS,
            )
            closing.callback(client.close)
            yield client, closing
    except MILVUS_ERRORS as error:
        raise _not_opened(address, error) from error


def _of_other_spaces(spaces: Collection[str]) -> str:
    return f"(not {one_of('space', sorted(spaces))})"


def _dimension(found: dict[str, Any]) -> int:
    vector = next(field for field in found["fields"] if field["name"] == "vector")
    return int(vector["params"]["dim"])


def _space(found: dict[str, Any]) -> str:
    return str((found.get("properties") or {}).get(_SPACE))


def _create(
    client: MilvusClient, name: str, space: str, dimension: int, kind: IndexKind, timeout_s: float
) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    # Milvus counts bytes.
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=4 * MAX_ID_LENGTH)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    for text, length in _TEXTS.items():
        schema.add_field(text, DataType.VARCHAR, max_length=length)
    schema.add_field("fields", DataType.JSON)
    schema.add_field("created", DataType.INT64)
    try:
        client.create_collection(
            name,
            schema=schema,
            index_params=_index_of(client, kind),
            consistency_level="Session",
            properties={_SCHEMA: _SCHEMA_VERSION, _SPACE: space},
            timeout=timeout_s,
        )
    except MilvusException:
        if not client.has_collection(name, timeout=timeout_s):
            raise


def _index_of(client: MilvusClient, kind: IndexKind) -> Any:
    index = client.prepare_index_params()
    index.add_index("vector", index_type=kind.type, metric_type="IP", params=kind.built_with)
    return index


def _index_type(client: MilvusClient, name: str, kind: IndexKind, timeout_s: float) -> str:
    """The type of the index; makes it where the process that made the collection has not, or not yet."""

    def found() -> Any:
        return client.describe_index(name, "vector", timeout=timeout_s)

    if found() is None:
        try:
            client.create_index(name, _index_of(client, kind), timeout=timeout_s)
        except MilvusException:
            if found() is None:
                raise
    return str(found()["index_type"])


def _check_fit(found: dict[str, Any], address: MilvusAddress, dimension: int, spaces: Collection[str]) -> None:
    properties = found.get("properties") or {}
    if (version := properties.get(_SCHEMA)) != _SCHEMA_VERSION:
        raise FolderMismatchError(
            f"store: {address} must be of schema version {_SCHEMA_VERSION}; found version {version}"
        )
    if (size := _dimension(found)) != dimension:
        raise FolderMismatchError(f"store: {address} must hold vectors of dimension {dimension}; found {size}")
    if (space := _space(found)) not in spaces:
        rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
        raise FolderMismatchError(f"store: {address} {rule}; it was made for {space}")


def _not_opened(address: MilvusAddress, error: Exception) -> OpenRefusedError | StoreFailedError:
    if isinstance(error, MilvusException) and ("database not" in error.message or "auth" in error.message):
        return OpenRefusedError(f"store: Milvus refuses {address}: {error.message}")
    return StoreFailedError(f"store: Milvus at {address} does not answer ({describe_error(error)})")

"""Servers that speak Milvus's protocol, and collections for tests.

milvus-lite, in this process, is always there where it is installed. A real server is used where SFSC_MILVUS_URI
names one (milvus://HOST:PORT/DATABASE), or where SFSC_MILVUS_PYTHON is a Python that has PyPI's `milvus`, as
`make test-milvus` arranges it.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.store.milvus.index_kind import MilvusSearch
from sfsc_service.store.protocol import Store
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE

START_S = 60.0
HAS_REAL_SERVER = bool(os.environ.get("SFSC_MILVUS_URI") or os.environ.get("SFSC_MILVUS_PYTHON"))


def need_pymilvus() -> None:
    for name in ("pymilvus", "circuitbreaker", "milvus_lite"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install '.[milvus,dev]'")


@contextmanager
def lite_server(folder: Path, port: int = 0) -> Iterator[str]:
    """The address of milvus-lite with its data in a folder."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(str(folder), port=port)
    try:
        yield f"milvus://127.0.0.1:{port}/default"
    finally:
        server.stop(grace=1).wait()
        database.close()


@contextmanager
def lite_process(folder: Path, port: int) -> Iterator[int]:
    """The id of a process that is milvus-lite with its data in a folder; it has ended when the block ends."""
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder), "--host", "127.0.0.1"]
    with (folder.with_suffix(".log")).open("ab") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            assert process.poll() is None, "milvus-lite did not start; the log is beside its folder"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def port_of(address: str) -> int:
    return int(address.split(":")[2].split("/")[0])


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def real_server(folder: Path) -> Iterator[str]:
    """The address of the server that is named, or of one that is started with its data in a folder."""
    if address := os.environ.get("SFSC_MILVUS_URI"):
        yield address
        return
    script = Path(__file__).with_name("milvus_server.py")
    command = [os.environ["SFSC_MILVUS_PYTHON"], str(script), str(folder)]
    # In a session of its own, Ctrl-C does not stop it before the tests have ended.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, f"Milvus did not start; {folder / 'logs'} may say why"
        yield f"milvus://127.0.0.1:{port}/default"
        assert process.stdin is not None
        process.stdin.close()


class Galleries:
    """Collections for places: a server needs seconds to make one, so they are emptied and used again."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._free: list[str] = []
        self._taken: dict[Path, str] = {}

    def open(
        self,
        place: Path,
        *,
        space: str = SPACE,
        dimension: int = DIMENSION,
        compatible_with: Collection[str] = (OLD_SPACE,),
        search: MilvusSearch | None = None,
    ) -> Store:
        from sfsc_service.store.milvus.address import read_address
        from sfsc_service.store.milvus.store import MilvusStore

        if place not in self._taken:
            self._taken[place] = self._free.pop() if self._free else f"test_{uuid.uuid4().hex}"
        name = self._taken[place]
        address = read_address(self._address)
        return MilvusStore(address, name, place / "images", space, dimension, compatible_with, search=search)

    def build_index(self, place: Path) -> None:
        """Have the index of a place made over all that is there, and used."""
        name = self._taken[place]
        self._client.flush(name)
        deadline = time.monotonic() + START_S
        while (found := self._client.describe_index(name, "vector"))["pending_index_rows"] or not found[
            "indexed_rows"
        ]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        self._client.release_collection(name)
        self._client.load_collection(name)

    def drop_index(self, place: Path) -> None:
        """Leave a place as a process does that is killed while it makes it."""
        self._client.release_collection(self._taken[place])
        self._client.drop_index(self._taken[place], "vector")

    def release(self) -> None:
        """Empty the collections of all places. To be called when their stores are closed."""
        for name in self._taken.values():
            self._client.delete(name, filter='id > ""')
            self._client.query(name, "", output_fields=["count(*)"], consistency_level="Strong")
            self._free.append(name)
        self._taken.clear()

    def drop(self) -> None:
        """Drop all collections."""
        for name in [*self._taken.values(), *self._free]:
            self._client.drop_collection(name)
        self._client.close()

    @cached_property
    def _client(self) -> Any:
        from pymilvus import MilvusClient

        uri = self._address.replace("milvus", "http").removesuffix("/default")
        return MilvusClient(uri, dedicated=True, grpc_options={"grpc.keepalive_permit_without_calls": 0})


@contextmanager
def break_upserts(*, reaches_disk: bool) -> Iterator[None]:
    """Milvus makes the changes or not, and the connection is lost before it says so."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    with pytest.MonkeyPatch.context() as patch:
        for name, call in (("upsert", MilvusClient.upsert), ("delete", MilvusClient.delete)):

            def broken(*args: Any, call: Any = call, **kwargs: Any) -> None:
                if reaches_disk:
                    call(*args, **kwargs)
                raise MilvusException(message="the connection was lost")

            patch.setattr(MilvusClient, name, broken)
        yield


@contextmanager
def break_queries() -> Iterator[None]:
    """Milvus answers no queries."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise MilvusException(message="the connection was lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MilvusClient, "query", broken)
        yield

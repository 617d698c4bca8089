"""Images in an object store that fsspec reaches: <url>/ab/cd/<sha256>, and <url>/removed/<sha256>/<unique>.

What the object store itself must promise, as S3 does: once its writing was answered, an object is there as a
whole, durable and seen by all readers, and gone for all once its deletion was. It can rename nothing. So an image
is moved by a copy that is there before the original goes; what another process wrote in between is in the copy,
too, because the content is the same.

Every request ends in bounded time. Once one was not answered, calls fail at once, so that no threads pile up:
until a probe is answered, or for `_OPEN_S` after the last attempt. Requests are made on fsspec's own thread.
"""

import asyncio
import importlib.util
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from circuitbreaker import CircuitBreaker

from sfsc_bundle.extras import installing
from sfsc_service.store.errors import OpenRefusedError, StoreFailedError
from sfsc_service.store.fault import FaultCause, StoreFault
from sfsc_service.store.milvus.image_place import digest_in

__all__ = ["ObjectImages"]

_REQUEST_S, _CALL_S, _PROBE_S = 10.0, 60.0, 2.0
"""Seconds that one request, a call of many and a probe may take; all less than images.GRACE_S."""
_OPEN_S = 5.0
_PROBE_EVERY_S = 30.0
_AT_ONCE = 8
_OPTIONS: dict[str, dict[str, Any]] = {
    # Within the bounds above, a request that was not answered is sent once more.
    "s3": {
        "config_kwargs": {
            "connect_timeout": 3,
            "read_timeout": _REQUEST_S,
            "retries": {"mode": "standard", "total_max_attempts": 2},
        }
    }
}
_CHATTY = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "s3fs", "urllib3")
"""Libraries that log signatures and tokens at level debug."""
_IN_WORDS = {
    "FileNotFoundError": "there is no such bucket",
    "PermissionError": "access is denied",
    "TimeoutError": "no answer in time",
    "NotImplementedError": "it cannot copy objects",
    "NoCredentialsError": "no credentials",
    "PartialCredentialsError": "incomplete credentials",
    "EndpointConnectionError": "no connection",
    "ConnectTimeoutError": "no connection",
    "ConnectionClosedError": "the connection was closed",
}

_log = logging.getLogger(__name__)


class ObjectImages:
    """Implements ImagePlace.

    Args:
        url: SCHEME://BUCKET/PREFIX, for whose scheme fsspec has an asynchronous implementation.

    Raises:
        OpenRefusedError: fsspec, or its package for the scheme, is missing, or it is no object store.
        StoreFailedError: it does not answer, has no such bucket, or does not let us write, read, list and delete.
    """

    def __init__(self, url: str) -> None:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._breaker = CircuitBreaker(1, _OPEN_S, _is_unanswered, f"images {url}")
        self._probing = threading.Lock()
        self._fault: StoreFault | None = None
        self._next_probe = time.monotonic() + _PROBE_EVERY_S
        self._system, self._root = _open(url)
        try:
            self._ended(self._check(), _REQUEST_S)
        except Exception as error:
            self.close()
            raise StoreFailedError(f"image_folder: {url} cannot be used ({_in_words(error)})") from error

    def write(self, contents: Mapping[str, bytes]) -> None:
        async def write(
            digest: str,
        ) -> None:  # also what is there: a look costs as much, and a damaged one is mended
            await self._system._pipe_file(self._path(digest), contents[digest])

        self._for_each(contents, write, "stored")

    def read(self, digest: str) -> bytes:
        return self._content(self._path(digest))

    def set_aside(self, digests: Collection[str]) -> None:
        async def set_aside(digest: str) -> None:
            await self._move(self._path(digest), self._aside(f"{digest}.{uuid.uuid4().hex}"))

        self._for_each(digests, set_aside, "set aside")

    def names_aside(self, digest: str | None = None) -> list[str]:
        folder = f"{self._root}/removed" if digest is None else f"{self._root}/removed/{digest}"
        with self._asking("listed"):
            found = self._ended(self._system._find(folder), _CALL_S)
        return [".".join(path.split("/")[-2:]) for path in found]

    def read_aside(self, name: str) -> bytes:
        return self._content(self._aside(name))

    def put_back(self, names: Collection[str]) -> None:
        async def put_back(name: str) -> None:
            await self._move(self._aside(name), self._path(digest_in(name)))

        self._for_each(names, put_back, "put back")

    def delete(self, names: Collection[str]) -> None:
        async def delete(name: str) -> None:
            with suppress(FileNotFoundError):
                await self._system._rm_file(self._aside(name))

        self._for_each(names, delete, "deleted")

    def fault(self) -> StoreFault | None:
        """Writes an empty object every half minute, and every few seconds while the object store is away."""
        with self._probing:
            if time.monotonic() >= self._next_probe or (self._fault is None and self._breaker.opened):
                self._fault = self._probe()
                self._next_probe = time.monotonic() + (_PROBE_EVERY_S if self._fault is None else _OPEN_S)
            return self._fault

    @property
    def free_bytes(self) -> float:
        return math.inf

    def close(self) -> None:
        """Connections go with fsspec's object, which nothing else refers to."""
        with suppress(AttributeError):  # it was closed before
            del self._system

    async def _check(self) -> None:
        """Do once whatever will be done. Raises as fsspec."""
        path = f"{self._root}/checks/{uuid.uuid4().hex}"
        await self._system._pipe_file(path, b"check")
        await self._move(path, f"{path}.moved")
        if [f"{path}.moved"] != [one for one in await self._system._find(f"{self._root}/checks") if path in one]:
            raise NotImplementedError
        await self._system._cat_file(f"{path}.moved")
        await self._system._rm_file(f"{path}.moved")

    def _probe(self) -> StoreFault | None:
        cause: FaultCause = "unresponsive"
        try:
            with self._breaker:
                self._ended(self._system._pipe_file(f"{self._root}/probe", b""), _PROBE_S)
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                cause = "folder_gone"
            elif isinstance(error, PermissionError):
                cause = "not_writable"
            return StoreFault(cause, f"the object store of the images cannot be used ({_in_words(error)})")
        return None

    def _content(self, path: str) -> bytes:
        with self._asking("read", passing=FileNotFoundError):
            content: bytes = self._ended(self._system._cat_file(path), _REQUEST_S)
        return content

    def _for_each(
        self, subjects: Collection[str], request: Callable[[str], Coroutine[Any, Any, None]], what: str
    ) -> None:
        async def all_of_them() -> None:
            free = asyncio.Semaphore(_AT_ONCE)

            async def one(subject: str) -> None:
                async with free, asyncio.timeout(_REQUEST_S):
                    await request(subject)

            async with asyncio.TaskGroup() as group:
                for subject in subjects:
                    group.create_task(one(subject))

        if subjects:
            with self._asking(what):
                try:
                    self._ended(all_of_them(), _CALL_S)
                except ExceptionGroup as group:
                    raise group.exceptions[0] from None

    async def _move(self, path: str, to: str) -> None:
        with suppress(FileNotFoundError):
            await self._system._cp_file(path, to)
            await self._system._rm_file(path)

    def _ended(self, request: Coroutine[Any, Any, Any], limit_s: float) -> Any:
        """Have fsspec's thread make a request. Raises TimeoutError, and what the request raises."""
        limited = asyncio.wait_for(request, limit_s)
        return asyncio.run_coroutine_threadsafe(limited, self._system.loop).result(limit_s + 1.0)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:4]}/{digest}"

    def _aside(self, name: str) -> str:
        return f"{self._root}/removed/{name.replace('.', '/')}"

    @contextmanager
    def _asking(self, what: str, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Around requests: whatever fails but `passing` is StoreFailedError."""
        if self._breaker.opened and (failure := self._breaker.last_failure) is not None:
            raise StoreFailedError(f"the object store of the images does not answer ({_in_words(failure)})")
        try:
            with self._breaker:
                yield
        except passing:
            raise
        except Exception as error:
            _log.error("images could not be %s in the object store: %s: %s", what, type(error).__name__, error)
            raise StoreFailedError(f"images cannot be {what} in the object store ({_in_words(error)})") from error


def _open(url: str) -> tuple[Any, str]:
    """fsspec's object, and the path of the URL in it. Raises OpenRefusedError."""
    scheme = url.partition("://")[0]
    if importlib.util.find_spec("fsspec") is None:
        raise OpenRefusedError(f"image_folder: {scheme}:// needs the extra s3: {installing('s3')}")
    import fsspec

    try:
        options = {"skip_instance_cache": True, "use_listings_cache": False, **_OPTIONS.get(scheme, {})}
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        needs = f"the extra s3: {installing('s3')}" if scheme == "s3" else f"a package of fsspec's ({error})"
        raise OpenRefusedError(f"image_folder: {scheme}:// needs {needs}") from error
    except ValueError as error:
        raise OpenRefusedError(
            f"image_folder: must be a folder or an object store; found {url}: {error}"
        ) from error
    root = path.rstrip("/")
    if not system.async_impl or not root:
        raise OpenRefusedError(
            f"image_folder: must be a folder or SCHEME://BUCKET/PREFIX of an object store; found {url}"
        )
    return system, root


def _is_unanswered(_kind: type[BaseException], error: BaseException) -> bool:
    return not isinstance(error, (FileNotFoundError, PermissionError))


def _in_words(error: BaseException) -> str:
    """What went wrong, in few words, without addresses and keys."""
    name = type(error).__name__
    return _IN_WORDS.get(name, f"error {name}")

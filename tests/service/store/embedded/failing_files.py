"""Let the n-th call that changes a file fail, of this process or of SQLite inside it, as a disk would."""

import ctypes
import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import pytest

__all__ = ["Fault", "FileCalls", "failing_files"]


class Fault(StrEnum):
    """How the call fails: at once, or after half of what it was to write."""

    IO_ERROR = "EIO"
    DISK_FULL = "ENOSPC"
    SHORT_WRITE = "short write, then ENOSPC"

    @property
    def number(self) -> int:
        return errno.EIO if self is Fault.IO_ERROR else errno.ENOSPC


class FileCalls:
    """Counts the calls; that of number `fail_at`, and the `lasting` - 1 after it, fail. 0: none does."""

    def __init__(self, fail_at: int, fault: Fault, lasting: int) -> None:
        self.count = 0
        self.failed: list[str] = []
        self._fail_at, self._fault, self._lasting = fail_at, fault, lasting
        self._lock = threading.Lock()

    def fault(self, name: str) -> Fault | None:
        with self._lock:
            self.count += 1
            if not self._fail_at <= self.count < self._fail_at + self._lasting or not self._fail_at:
                return None
            self.failed.append(name)
            return self._fault


@contextmanager
def failing_files(fail_at: int, fault: Fault, lasting: int = 1) -> Iterator[FileCalls]:
    calls = FileCalls(fail_at, fault, lasting)
    with pytest.MonkeyPatch.context() as patch, _failing_sqlite(calls):
        for name in ("fsync", "fdatasync", "replace", "truncate", "unlink", "mkdir"):
            patch.setattr(os, name, _failing(calls, name, getattr(os, name)))
        patch.setattr(os, "pwrite", _failing_write(calls, os.pwrite))
        yield calls


def _failing(calls: FileCalls, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if fault := calls.fault(name):
            raise OSError(fault.number, os.strerror(fault.number))
        return real(*arguments, **options)

    return call


def _failing_write(calls: FileCalls, real: Callable[..., int]) -> Callable[..., int]:
    def write(descriptor: int, data: Any, offset: int) -> int:
        fault = calls.fault("pwrite")
        if fault is None:
            return real(descriptor, data, offset)
        if fault is Fault.SHORT_WRITE:
            real(descriptor, bytes(data)[: len(data) // 2], offset)
        raise OSError(fault.number, os.strerror(fault.number))

    return write


_WRITE = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64, use_errno=True
)
_CUT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64, use_errno=True)
_SET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = [
        ("numbers", ctypes.c_int * 3),
        ("pointers", ctypes.c_void_p * 3),
        ("methods", ctypes.c_void_p * 13),
        ("set_system_call", ctypes.c_void_p),
    ]


@contextmanager
def _failing_sqlite(calls: FileCalls) -> Iterator[None]:
    """SQLite's unix VFS lets its system calls be replaced one by one, for tests like this one."""
    library = ctypes.CDLL("libsqlite3.so.0")
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    vfs = library.sqlite3_vfs_find(None)
    system = ctypes.CDLL(None, use_errno=True)
    system.pwrite64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
    system.pwrite64.restype = ctypes.c_ssize_t
    system.ftruncate64.argtypes = [ctypes.c_int, ctypes.c_int64]

    @_WRITE
    def write(descriptor: int, data: int, size: int, offset: int) -> int:
        fault = calls.fault("pwrite of SQLite")
        if fault is None:
            return int(system.pwrite64(descriptor, data, size, offset))
        if fault is Fault.SHORT_WRITE:
            system.pwrite64(descriptor, data, size // 2, offset)
        ctypes.set_errno(fault.number)
        return -1

    @_CUT
    def cut(descriptor: int, size: int) -> int:
        if fault := calls.fault("ftruncate of SQLite"):
            ctypes.set_errno(fault.number)
            return -1
        return int(system.ftruncate64(descriptor, size))

    replaced = {b"pwrite": write, b"pwrite64": write, b"ftruncate": cut}
    set_call = _SET(_Vfs.from_address(vfs).set_system_call)
    for name, function in replaced.items():
        set_call(vfs, name, ctypes.cast(function, ctypes.c_void_p))
    try:
        yield
    finally:
        for name in replaced:
            set_call(vfs, name, None)


def sqlite_can_be_made_to_fail() -> bool:
    """Whether Python's SQLite is the shared library, whose system calls can be replaced."""
    with sqlite3.connect(":memory:"):
        pass
    with open("/proc/self/maps") as maps:
        return "libsqlite3.so.0" in maps.read()

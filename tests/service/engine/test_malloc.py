"""What was freed is given back to the system, and the service does so by itself."""

import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

from sfsc_service.engine.malloc import trim_heap
from sfsc_service.settings import Settings
from tests.service.live import running

TRIM_THRESHOLD = -1  # malloc.h


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap is meant")
def test_freed_memory_is_given_back() -> None:
    # Blocks below glibc's threshold for mappings of their own, with one that stays on top of them.
    blocks = [np.ones(100_000, np.uint8) for _ in range(1500)]
    last = blocks[-1]
    full = resident_mib()
    blocks.clear()
    trim_heap()
    assert resident_mib() < full - 100
    assert last.size == 100_000


KEPT_ON_TOP = """
import ctypes
import numpy as np
from sfsc_service.engine.malloc import trim_heap
from tests.service.engine.test_malloc import TRIM_THRESHOLD, resident_mib

trim_heap()
assert ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, 2**30), "from now on glibc keeps what lies on top"
blocks = [np.ones(100_000, np.uint8) for _ in range(1500)]
full = resident_mib()
blocks.clear()
kept = resident_mib()
assert trim_heap()
print(full - kept, full - resident_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap is meant")
def test_trimming_leaves_nothing_on_top_of_the_heap() -> None:
    # In a process of its own, whose main thread has the heap that the option is for.
    by_itself, trimmed = subprocess.check_output([sys.executable, "-c", KEPT_ON_TOP], text=True).split()
    assert float(by_itself) < 10, "the test shows nothing if glibc does it by itself"
    assert float(trimmed) > 100


RAISED = """
import sys
import numpy as np
from sfsc_service.engine.malloc import return_large_blocks
from tests.service.engine.test_malloc import resident_mib

if sys.argv[1] == "little":
    assert return_large_blocks()
for size in (4, 8, 16, 30):  # each, once freed, raises the size from which glibc maps blocks alone
    np.ones(size * 2**20, np.uint8)
blocks, between = [], [np.ones(100_000, np.uint8) for _ in range(500)]  # these fill the holes that imports left
for _ in range(10):
    blocks.append(np.ones(20 * 2**20, np.uint8))
    between.append(np.ones(100_000, np.uint8))  # on top of it, so that a heap could not shrink
full = resident_mib()
blocks.clear()
print(full - resident_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap is meant")
def test_large_blocks_go_back_at_once_however_many_were_freed_before() -> None:
    given_back = {
        how: float(subprocess.check_output([sys.executable, "-c", RAISED, how], text=True))
        for how in ("little", "as usual")
    }
    assert given_back["little"] > 190
    assert given_back["as usual"] < 10, "the test shows nothing if glibc does it by itself"


ARENAS = """
import ctypes
import re
import sys
import tempfile
import threading
from sfsc_service.engine.malloc import limit_arenas

if sys.argv[1] == "limited":
    assert limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
met = threading.Barrier(8)


def allocate():
    met.wait()
    libc.malloc(100_000)
    met.wait()


threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as file:
    stream = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(len(re.findall(rb"<heap nr=", file.read())))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap is meant")
def test_threads_share_two_arenas() -> None:
    made = {
        how: int(subprocess.check_output([sys.executable, "-c", ARENAS, how], text=True))
        for how in ("limited", "not")
    }
    assert made["limited"] <= 2
    assert made["not"] > 2, "the test shows nothing if glibc makes no more by itself"


def test_a_running_service_does_so_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    called = threading.Event()
    monkeypatch.setattr("sfsc_service.engine.embedder.trim_heap", called.set)
    monkeypatch.setattr("sfsc_service.lifecycle.health.TRIM_EVERY_S", 0.0)
    monkeypatch.setattr("sfsc_service.lifecycle.health.CANARY_EVERY_S", 0.1)
    with running(settings):
        assert called.wait(20.0)

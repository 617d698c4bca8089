"""The memory that the process may use: the least limit in the files of both versions of control groups."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfsc_bundle.machine import own_groups
from sfsc_service.engine.memory_budget import (
    LEAST_BYTES,
    LEAST_FIELDS_BYTES,
    filter_memory,
    memory_budget,
    memory_limit,
)
from sfsc_service.errors import StartError

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GIB = 2**30


def tree(root: Path, groups: str, files: dict[str, str]) -> Iterator[Path]:
    """The groups of a process by its /proc/self/cgroup and its /sys/fs/cgroup."""
    (root / "membership").write_text(groups)
    for name, content in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(content)
    return own_groups("memory", root / "membership", root / "cgroup")


GROUPS = {
    "version 2": ("0::/a/b\n", {"a/b/memory.max": f"{GIB}\n"}, GIB),
    "version 2, in a container": ("0::/\n", {"memory.max": f"{GIB}\n"}, GIB),
    "version 2, the group above": ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{GIB}\n"}, GIB),
    "version 2, the lesser one": ("0::/a/b\n", {"a/b/memory.max": f"{GIB}\n", "a/memory.max": "2000\n"}, 2000),
    "version 2, a path of the host": ("0::/../../x\n", {"memory.max": f"{GIB}\n"}, GIB),
    "version 1": ("5:cpu:/\n4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    "version 1, with others": ("4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    "version 1, in a container": ("4:memory:/docker/1\n", {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    "none": ("0::/\n", {}, None),
    "no limit": ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_limit_of_a_control_group(name: str, tmp_path: Path) -> None:
    groups, files, expected = GROUPS[name]
    found = memory_limit(tree(tmp_path, groups, files))
    assert found == ((MACHINE, "the machine") if expected is None else (expected, "the control group"))


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert memory_limit(own_groups("memory", tmp_path / "none", tmp_path / "cgroup")) == (MACHINE, "the machine")


def test_what_is_left_is_shared() -> None:
    budget = memory_budget(8 * GIB)
    assert (budget.limit, budget.source) == (8 * GIB, "SFSC_MEMORY_BYTES")
    assert 0 < budget.taken < 8 * GIB
    assert 2 * GIB < budget.decoding + 2 * budget.bodies < 8 * GIB - budget.taken
    assert budget.decoding > budget.bodies > 0


def test_less_than_is_taken_already_is_refused() -> None:
    with pytest.raises(
        StartError, match=r"SFSC_MEMORY_BYTES: must be at least \d+, because \d+ are taken already"
    ):
        memory_budget(2**26)


CHILD = """
import resource
from sfsc_service.engine.memory_budget import filter_memory, memory_budget
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
budget = memory_budget()
print(budget.source, budget.limit, budget.taken, budget.decoding, filter_memory())
"""


def test_rlimit_as_counts_against_the_address_space() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True, text=True)
    source, *numbers = child.stdout.split()
    limit, taken, decoding, fields = map(int, numbers)
    assert (source, limit, fields) == ("RLIMIT_AS", 2**31, 2**27)
    assert LEAST_BYTES // 2 < decoding < limit - taken
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(("limit", "fields"), [(2**28, LEAST_FIELDS_BYTES), (2**30, 2**26), (16 * GIB, GIB)])
def test_fields_for_filters_may_take_a_sixteenth(limit: int, fields: int) -> None:
    assert filter_memory(limit) == fields

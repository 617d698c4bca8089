"""The machine: its processor's name, the control groups of this process, and how many processors it may use."""

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "own_groups", "processor", "usable_cpus"]

_MEMBERSHIP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def processor() -> str:
    """The processor's name: on Linux it stands in /proc; platform.processor() is empty on most distributions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor()) or platform.machine()


def usable_cpus() -> int:
    """CPUs that this process may use: by its affinity, and by the quota of its control groups, rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cpu_quota())))


def cpu_quota(membership: Path = _MEMBERSHIP, groups: Path = _GROUPS) -> float:
    """CPU time per time that Linux's control groups (v1 or v2) allow this process; infinite without a limit.

    Args:
        membership: the file that names the groups of the process.
        groups: where the hierarchies of control groups are mounted.
    """
    own = own_groups("cpu", membership, groups)
    return min((quota for group in own if (quota := _quota(group))), default=math.inf)


def own_groups(controller: str, membership: Path = _MEMBERSHIP, groups: Path = _GROUPS) -> Iterator[Path]:
    """The folders of the process's control groups and of those above them, as far as they are visible.

    Args:
        controller: what is limited, such as cpu or memory.
        membership, groups: as of `cpu_quota`.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = groups / controller if controllers else groups
        below = Path(path.lstrip("/"))
        yield from (root / above for above in (below, *below.parents))


def _quota(group: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text().strip() for name in names).split()
            return int(quota) / int(period) if int(quota) > 0 else None
        except (OSError, ValueError):  # there is no such file, or it says max
            continue
    return None

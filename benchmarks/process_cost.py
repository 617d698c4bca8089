"""CPU time and memory of a process and all its children, read from /proc."""

import os
from pathlib import Path

__all__ = ["cpu_ms", "processes", "pss_mib"]

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
CPU_TIMES = slice(11, 13)  # utime and stime, counted from behind the command's name


def cpu_ms(root: int) -> float:
    """CPU milliseconds so far, in user and kernel mode, of all processes of the tree that are alive."""
    ticks = 0
    for pid in processes(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[CPU_TIMES])
    return ticks * TICK_MS


def pss_mib(root: int) -> float:
    """Memory in MiB; pages that several processes share are counted once."""
    kib = 0
    for pid in processes(root):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def processes(root: int) -> list[int]:
    """Ids of a process and all its descendants."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found

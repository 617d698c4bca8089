"""How much memory this process may use, and what of it images and request bodies may take.

The least of these counts: the limit of its control group and of the groups above it (versions 1 and 2), RLIMIT_AS,
and the machine's memory. What the process has taken when it is ready to serve is set aside, and so is what grows
under load.
"""

import logging
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sfsc_bundle.machine import own_groups
from sfsc_service.errors import StartError

__all__ = ["MemoryBudget", "filter_memory", "memory_budget", "memory_limit"]

log = logging.getLogger(__name__)

MIB = 2**20
GROWTH_BYTES = 64 * MIB
"""Set aside for what grows under load: onnxruntime's arena, and the heap between images."""
GROWTH_SHARE = 1 / 16
"""And this share of the limit: the page tables and caches that a control group counts, too."""
DECODING_SHARE = 0.7
"""Of what is left, for images being decoded; the rest is for bodies."""
LEAST_BYTES = 32 * MIB
"""With less left, no photograph could be decoded."""
FIELDS_SHARE = 1 / 16
"""Of the limit, for the fields of metadata that filters are judged by."""
LEAST_FIELDS_BYTES = 64 * MIB
SMALL_BODIES_SHARE = 8
"""One part in so many of what bodies may take is had by small ones besides."""
BODY_COPIES = 2
"""A body lies in memory up to so many times: as it arrived, and as what was read from it."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes: the limit, what was taken at the start, and what images being decoded and request bodies may take.

    `source` says where the limit comes from.
    """

    limit: int
    source: str
    taken: int
    decoding: int
    bodies: int


def memory_budget(explicit: int | None = None) -> MemoryBudget:
    """The budget of this process. To be called once everything is open that it needs to serve.

    Args:
        explicit: the limit that the operator chose, instead of the machine's.

    Raises:
        StartError: the operator chose less than what is taken already and `LEAST_BYTES` more.
    """
    taken, mapped = _process_bytes()
    limit, source = (explicit, "SFSC_MEMORY_BYTES") if explicit is not None else memory_limit()
    free = limit - taken - GROWTH_BYTES - int(limit * GROWTH_SHARE)
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if explicit is None and address_space != resource.RLIM_INFINITY:
        unmapped = address_space - mapped - GROWTH_BYTES
        if unmapped < free:
            limit, source, taken, free = address_space, "RLIMIT_AS", mapped, unmapped
    if free < LEAST_BYTES and explicit is not None:
        least = limit + LEAST_BYTES - free
        raise StartError(
            f"SFSC_MEMORY_BYTES: must be at least {least}, because {taken} are taken already, found {explicit}"
        )
    if free < LEAST_BYTES:
        log.warning(
            "%s allows %d MiB of memory, of which %d are taken; images and bodies may take %d all the same, and "
            "the process may be killed",
            source,
            limit // MIB,
            taken // MIB,
            LEAST_BYTES // MIB,
        )
        free = LEAST_BYTES
    decoding = int(free * DECODING_SHARE)
    bodies = (free - decoding) // BODY_COPIES * SMALL_BODIES_SHARE // (SMALL_BODIES_SHARE + 1)
    return MemoryBudget(limit, source, taken, decoding, bodies)


def filter_memory(limit: int | None = None) -> int:
    """The bytes that the fields of a collection may take where the operator chose nothing.

    Args:
        limit: the bytes that the operator allows the service; None: what the machine allows.
    """
    if limit is None:
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        limit = memory_limit()[0]
        if address_space != resource.RLIM_INFINITY:
            limit = min(limit, address_space)
    return max(LEAST_FIELDS_BYTES, int(limit * FIELDS_SHARE))


def memory_limit(groups: Iterable[Path] | None = None) -> tuple[int, str]:
    """The bytes that this process may use by its control groups and the machine, and which of them says so.

    Args:
        groups: the folders of its control groups; None: as the system names them.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = own_groups("memory") if groups is None else groups
    limits = [_number(group / name) for group in own for name in ("memory.max", "memory.limit_in_bytes")]
    found = [limit for limit in limits if limit is not None and limit < machine]
    return (min(found), "the control group") if found else (machine, "the machine")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # there is no such group, or its limit is `max`
        return None


def _process_bytes() -> tuple[int, int]:
    """Resident memory of this process, and its address space; zeros where the system does not tell."""
    try:
        mapped, resident = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[:2])
    except OSError:
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return resident * page, mapped * page

"""What keeps a store from reading or changing its items, as found by a look at it from outside of any call."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["FaultCause", "StoreFault"]

FaultCause = Literal[
    "folder_gone", "disk_full", "not_writable", "database_locked", "checkpoint_failed", "unresponsive"
]


@dataclass(frozen=True, slots=True)
class StoreFault:
    """One fault. `detail`: a clause for people, without paths of the machine."""

    cause: FaultCause
    detail: str

"""Members of a bulk call that the full queue refuses wait, as long as others of their window get through."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sfsc_service.errors import Problem

__all__ = ["WindowProgress", "retried"]

T = TypeVar("T")

ATTEMPTS = 5
"""So often in turn a member is refused, while none of its window gets through, before it has failed."""


@dataclass(slots=True)
class WindowProgress:
    """How many members of a window have got through the queue."""

    members: int = 0


async def retried(attempt: Callable[[], Awaitable[T]], progress: WindowProgress) -> T:
    """What the attempt gives that is not refused.

    While the queue is full of single requests, or of this window on a slow machine, members wait.

    Raises:
        Problem: of the last attempt.
    """
    refused, seen = 0, progress.members
    while True:
        try:
            result = await attempt()
        except Problem as problem:
            refused = refused + 1 if progress.members == seen else 1
            seen = progress.members
            if problem.code not in ("queue_full", "queue_timeout") or refused == ATTEMPTS:
                raise
            await asyncio.sleep(min(problem.retry_after_s or 1.0, 5.0))
        else:
            progress.members += 1
            return result

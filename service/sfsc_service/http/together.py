"""Several awaited at a time, of which one failure is the failure of all."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from sfsc_service.http.problems import free_traceback_locals

__all__ = ["together"]

T = TypeVar("T")


async def together(calls: Iterable[Coroutine[Any, Any, T]], begun_at_once: int | None = None) -> list[T]:
    """The results, in the order of the calls. Raises what the first that fails raises; the others are cancelled.

    Args:
        begun_at_once: how many begin in a turn of the event loop; None: all.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for call in calls:
                tasks.append(group.create_task(call))
                if begun_at_once is not None and len(tasks) % begun_at_once == 0:
                    await asyncio.sleep(0)
    except ExceptionGroup as failures:
        free_traceback_locals(failures)
        failure = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise failure  # outside of the except block, which would set its context

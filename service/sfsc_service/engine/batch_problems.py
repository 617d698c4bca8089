"""The problems with which the batcher refuses a request or answers one that got no result."""

from typing import assert_never

from sfsc_service.engine.worker_pool import Loss
from sfsc_service.errors import Problem

__all__ = [
    "deadline_passed",
    "is_busy",
    "no_worker",
    "queue_full",
    "queue_timeout",
    "repeated_after_s",
    "shutting_down",
    "worker_lost",
]

PAUSES_S = (0.2, 5.0)
"""The shortest and the longest between two attempts at an image of a bulk call."""


def queue_full(waiting_ms: float, limit_ms: float) -> Problem:
    """More work waits than is allowed."""
    return Problem(
        "queue_full",
        f"the waiting work is predicted to take {waiting_ms:.0f} ms, the limit is {limit_ms:.0f} ms",
        retry_after_s=waiting_ms / 1000,
    )


def queue_timeout() -> Problem:
    """The request was admitted, and the work before it took longer than predicted."""
    detail = "the request has waited for as long as it may (SFSC_QUEUE_MS; longer in bulk) and is dropped"
    return Problem("queue_timeout", detail, retry_after_s=1.0)


def is_busy(problem: Problem) -> bool:
    """Whether the service had no time for an image, and may have later."""
    return problem.code in ("queue_full", "queue_timeout")


def repeated_after_s(problem: Problem, gives_up: float, now: float) -> float | None:
    """Seconds until the service tries an image of a bulk call again by itself; None: the problem is final.

    Args:
        gives_up: until when the image may wait, in seconds.
    """
    shortest_s, longest_s = PAUSES_S
    pause_s = max(shortest_s, min(problem.retry_after_s or 1.0, longest_s))
    return pause_s if is_busy(problem) and now + pause_s < gives_up else None


def deadline_passed() -> Problem:
    """The request's deadline passed in the queue."""
    return Problem("deadline_passed", "deadline_ms: it passed while the request waited", "deadline_ms")


def shutting_down() -> Problem:
    """The request came too late, or still waited at the end."""
    return Problem("shutting_down", "the service is shutting down and computes no further requests")


def no_worker() -> Problem:
    """No worker is left to compute the request."""
    return Problem("no_worker", "every worker hangs or has died and no more are replaced; restart the service")


def worker_lost(cause: Loss) -> Problem:
    """The worker was lost that computed the request."""
    match cause:
        case "hung":
            return Problem(
                "inference_hung", "the network did not return in time; this request's batch is abandoned"
            )
        case "died":
            return Problem("inference_failed", "the worker that computed this request has died")
        case _:
            assert_never(cause)

"""The problems with which the batcher refuses a request or answers one that got no result."""

from typing import assert_never

from sfsc_service.engine.worker_pool import Loss
from sfsc_service.errors import Problem

__all__ = ["deadline_passed", "no_worker", "queue_full", "queue_timeout", "shutting_down", "worker_lost"]


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

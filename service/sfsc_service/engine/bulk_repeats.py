"""When the service tries an image of a bulk call again by itself."""

from sfsc_service.errors import Problem

__all__ = ["is_busy", "repeated_after_s"]

PAUSES_S = (0.2, 5.0)
"""The shortest and the longest between two attempts at an image of a bulk call."""


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

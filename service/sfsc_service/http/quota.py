"""How much a key may use in a second: token buckets."""

import time
from collections.abc import Callable

__all__ = ["TokenBucket"]


class TokenBucket:
    """Fills at `rate` tokens a second, up to what one second brings and at least one token.

    More may be taken than there is: how many images a request holds is known only after it was admitted. The level
    is negative then, and nothing further is admitted until it has been refilled, so the average rate holds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._level = max(rate, 1.0)
        self._filled = clock()

    def wait_s(self) -> float:
        """Seconds until a token is there; 0 where one is."""
        now = self._clock()
        self._level = min(self._level + (now - self._filled) * self.rate, max(self.rate, 1.0))
        self._filled = now
        return max(0.0, (1.0 - self._level) / self.rate)

    def take(self, tokens: int = 1) -> None:
        """Take tokens, whether they are there or not."""
        self._level -= tokens

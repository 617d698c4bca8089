"""When a request arrived, and what kind of request it is."""

import time
from dataclasses import dataclass, field

from sfsc_service.engine.bulk_repeats import repeated_after_s
from sfsc_service.errors import Problem

__all__ = ["Arrival"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """The arrival of a request.

    Attributes:
        at: seconds, monotonic.
        after_ms: predicted for what the request needs after its batch, such as a search.
        waited_ms: before it was read, at most; counts against the bound on waiting alone.
        bulk: low priority: an image of a bulk call.
        own: the service's own image, such as a canary, and nobody's request; it counts neither in the metrics of
            requests nor as an arrival from which more are predicted.
        read_at: when its body had come whole, in seconds, monotonic: from then on it waits, however late it is
            looked at. None: from when it is looked at.
        gives_up: until when an image of a bulk call may wait, in seconds, monotonic; while it may, a busy service
            tries it again. None: it may wait for as long as every request of its kind.
    """

    at: float
    after_ms: float = 0.0
    bulk: bool = field(kw_only=True)
    own: bool = False
    waited_ms: float = 0.0
    read_at: float | None = None
    gives_up: float | None = None

    @classmethod
    def now(cls, *, bulk: bool = False, own: bool = False, gives_up: float | None = None) -> "Arrival":
        """A request that arrives at this moment."""
        return cls(time.monotonic(), bulk=bulk, own=own, gives_up=gives_up)

    def waits_until(self, longest_ms: float, now: float) -> float:
        """Until when it may wait that may wait for so long."""
        if self.gives_up is not None:
            return self.gives_up
        return (now if self.read_at is None else self.read_at) + (longest_ms - self.waited_ms) / 1000

    def is_repeated_after(self, problem: Problem) -> bool:
        """Whether the image is tried again by itself, so that this is not what becomes of it."""
        return self.gives_up is not None and repeated_after_s(problem, self.gives_up, time.monotonic()) is not None

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since."""
        return 1000 * (time.monotonic() - self.at)

"""The steps of a request as spans of a trace.

Their tracer lies in the context of the request, where http puts it, so that no wing has to pass one on. While
tracing is off, a step costs one look-up.
"""

import time
from contextvars import ContextVar

from opentelemetry.trace import Tracer

__all__ = ["record_step", "trace_steps"]

_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)


def trace_steps(tracer: Tracer) -> None:
    """Record the steps of the current context, which is a request's, with this tracer."""
    _tracer.set(tracer)


def record_step(name: str, began: float, ended: float, **attributes: str) -> None:
    """Record a step of the current request.

    Args:
        began, ended: `time.monotonic()` at its ends.
    """
    tracer = _tracer.get()
    if tracer is None:
        return
    offset_s = time.time() - time.monotonic()
    span = tracer.start_span(
        name, start_time=_nanoseconds(began + offset_s), attributes={f"sfsc.{n}": v for n, v in attributes.items()}
    )
    span.end(_nanoseconds(ended + offset_s))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)

"""Whether a call is sent again, and after how long.

A service that refuses for now says when to come back (`Retry-After`); it has done nothing by then, so any call may
be repeated. After a lost connection nobody knows what was done: insertions are repeated, because the same item put
twice is one item; a removal is not, because the second one would be told that there is no such item. A call with a
deadline is never repeated: its answer would come too late. A bulk call that is refused
with 429 is repeated many times; a 503 may be a fault that lasts.
"""

import random
import time
from email.utils import parsedate_to_datetime
from typing import Any, assert_never

import httpx

from sfsc_service.client.call import Call
from sfsc_service.client.outcome import CallOutcome

__all__ = ["ATTEMPTS", "MAX_PAUSE_S", "PATIENT_ATTEMPTS", "pause_s"]

ATTEMPTS = 5
PATIENT_ATTEMPTS = 100
"""Of a bulk call that is refused each time: a service under lasting load refuses most of them at first."""
MAX_PAUSE_S = 30.0
"""A service that wants a longer pause is not waited for."""
FIRST_PAUSE_S = 0.05
"""After a lost connection; doubled each time."""

LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


def pause_s(call: Call[Any], attempt: int, outcome: CallOutcome) -> float | None:
    """Seconds until the call is sent again; None where the outcome is final.

    Args:
        attempt: how many times it was sent, from 1.
    """
    is_refused = isinstance(outcome, httpx.Response) and outcome.status_code == httpx.codes.TOO_MANY_REQUESTS
    most = PATIENT_ATTEMPTS if call.patient and is_refused else ATTEMPTS
    if attempt >= most or not _may_repeat(call, outcome):
        return None
    if isinstance(outcome, httpx.Response):
        pause = _retry_after_s(outcome)
        return pause if pause is not None and pause <= MAX_PAUSE_S else None
    doubled: float = FIRST_PAUSE_S * 2 ** (attempt - 1)
    return doubled * random.uniform(0.5, 1.5)


def _may_repeat(call: Call[Any], outcome: CallOutcome) -> bool:
    refused = (
        outcome.status_code == 429
        if isinstance(outcome, httpx.Response)
        else isinstance(outcome, httpx.ConnectError)
    )
    match call.repeat:
        case "never":
            return False
        case "if refused":
            return refused
        case "always":
            is_503 = isinstance(outcome, httpx.Response) and outcome.status_code == 503
            return refused or is_503 or isinstance(outcome, LOST)
        case _:
            assert_never(call.repeat)


def _retry_after_s(response: httpx.Response) -> float | None:
    """The header in seconds, which may be a number or a date; None where there is none or it is neither."""
    text = response.headers.get("Retry-After", "")
    try:
        if text.isdecimal():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None

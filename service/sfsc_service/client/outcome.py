"""What came of a call: an answer, or the error that a client raises."""

from typing import TypeVar

import httpx

from sfsc_service.client.call import Call
from sfsc_service.errors import ServiceError

__all__ = ["CallOutcome", "answer_of"]

T = TypeVar("T")

SHOWN_CHARACTERS = 60

CallOutcome = httpx.Response | httpx.TransportError
"""A response, or why there is none."""


def answer_of(call: Call[T], outcome: CallOutcome, url: httpx.URL) -> T:
    """The answer to a call of the service at `url`. Raises ServiceError where there is none."""
    if isinstance(outcome, httpx.TransportError):
        reason = str(outcome) or type(outcome).__name__
        raise ServiceError("unreachable", f"no answer from {_shown(url)}: {reason}", 0) from outcome
    try:
        if not outcome.is_success:
            problem = outcome.json()
            raise ServiceError(str(problem["code"]), str(problem["detail"]), outcome.status_code)
        return call.read(outcome)
    except (ValueError, KeyError, TypeError) as error:
        raise _of_another_program(outcome, url) from error


def _of_another_program(response: httpx.Response, url: httpx.URL) -> ServiceError:
    status, text = response.status_code, response.text[:SHOWN_CHARACTERS]
    return ServiceError("unknown", f"another program answers at {_shown(url)}: status {status}, {text!r}", status)


def _shown(url: httpx.URL) -> httpx.URL:
    """The address without a user and a password."""
    return url.copy_with(userinfo=b"")

"""What came of a call: an answer, or the error that a client raises."""

from typing import TypeVar

import httpx

from sfsc_service.client.call import Call
from sfsc_service.errors import ServiceError

__all__ = ["CallOutcome", "answer_of"]

T = TypeVar("T")

CallOutcome = httpx.Response | httpx.TransportError
"""A response, or why there is none."""


def answer_of(call: Call[T], outcome: CallOutcome, url: httpx.URL) -> T:
    """The answer to a call of the service at `url`. Raises ServiceError where there is none."""
    if isinstance(outcome, httpx.TransportError):
        reason = str(outcome) or type(outcome).__name__
        raise ServiceError("unreachable", f"no answer from {url}: {reason}", 0) from outcome
    if not outcome.is_success:
        raise _refusal(outcome)
    try:
        return call.read(outcome)
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{url} gave no answer of this service, found {outcome.text[:60]!r}"
        raise ServiceError("unknown", detail, outcome.status_code) from error


def _refusal(response: httpx.Response) -> ServiceError:
    try:
        problem = response.json()
        return ServiceError(str(problem["code"]), str(problem["detail"]), response.status_code)
    except (ValueError, KeyError, TypeError):
        return ServiceError("unknown", response.text[:200], response.status_code)

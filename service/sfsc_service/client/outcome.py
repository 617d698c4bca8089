"""What came of a call: an answer, or the error that a client raises."""

from typing import TypeVar

import httpx

from sfsc_service.client.call import Call
from sfsc_service.errors import ServiceError

__all__ = ["CallOutcome", "answer_of"]

T = TypeVar("T")

SHOWN_CHARACTERS = 60
NO_ROUTE = "not_found"
"""What a service answers at a path that no call has; where a call finds no item, the code is another one."""
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
"""How versions of OpenSSL name an answer that is not TLS."""

NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""How OpenSSL names a certificate that nobody vouches for."""

CallOutcome = httpx.Response | httpx.TransportError
"""A response, or why there is none."""


def answer_of(call: Call[T], outcome: CallOutcome, url: httpx.URL) -> T:
    """The answer to a call of the service at `url`. Raises ServiceError where there is none."""
    if isinstance(outcome, httpx.TransportError):
        if NOT_TRUSTED in str(outcome):
            hint = "if an authority of your own has signed it, name the file of its certificate in SSL_CERT_FILE"
            raise ServiceError("certificate_not_trusted", f"{_shown(url)}: {outcome}; {hint}", 0) from outcome
        reason = f"{str(outcome) or type(outcome).__name__}{_other_protocol(outcome, url)}"
        raise ServiceError("unreachable", f"no answer from {_shown(url)}: {reason}", 0) from outcome
    try:
        if not outcome.is_success:
            problem = outcome.json()
            code, detail = str(problem["code"]), str(problem["detail"])
            if code == NO_ROUTE:
                detail = _no_route(outcome, url)
            raise ServiceError(code, detail, outcome.status_code)
        return call.read(outcome)
    except (ValueError, KeyError, TypeError) as error:
        raise _of_another_program(outcome, url) from error


def _of_another_program(response: httpx.Response, url: httpx.URL) -> ServiceError:
    status, text = response.status_code, repr(response.text[:SHOWN_CHARACTERS])
    if response.has_redirect_location:
        moved = url.join(response.headers["Location"]).copy_with(query=None)
        text = f"to be asked at {_shown(moved)}"
    found = f"{_tried(response)} has status {status}, {text}"
    return ServiceError("unknown", f"another program answers at {_shown(url)}: {found}", status)


def _no_route(response: httpx.Response, url: httpx.URL) -> str:
    found = f"{_shown(url)} is not the address of an sfsc service: nothing is at {_tried(response)}"
    if url.path.strip("/"):
        return f"{found}; without its path, {_shown(url.copy_with(raw_path=b''))}, it may be one"
    return f"{found}; a service of another version may be there"


def _other_protocol(error: httpx.TransportError, url: httpx.URL) -> str:
    """A hint where the other end seems to speak plain HTTP in the place of TLS, or the reverse."""
    if url.scheme == "https" and any(mark in str(error) for mark in NO_TLS):
        return f"; it seems to speak HTTP without TLS: {_shown(url.copy_with(scheme='http'))}"
    if url.scheme == "http" and isinstance(error, httpx.RemoteProtocolError):
        return f"; if it speaks TLS, its address is {_shown(url.copy_with(scheme='https'))}"
    return ""


def _tried(response: httpx.Response) -> httpx.URL:
    return _shown(response.request.url.copy_with(query=None))


def _shown(url: httpx.URL) -> httpx.URL:
    """The address without a user and a password."""
    return url.copy_with(userinfo=b"")

"""Which names requests may address the service by, and which web pages may send them.

A browser sends requests for any page that it shows. Two checks keep other pages out:
- Host must be a name that no other site can have. Otherwise a page whose name was pointed at this machine after it
  was loaded (DNS rebinding) would count as the service's own. IP addresses other than the connection's own are
  refused, too; a name without a dot cannot be registered, so `http://sfsc:8000` within a network works as it is.
- Origin, or Sec-Fetch-Site where a browser sends no Origin, must say that one of the service's own pages asks, or
  one that `cors_origins` names. Programs send neither. Where the service speaks HTTPS, a page that came over plain
  HTTP is not its own: whoever sits on the way may have written it.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping

from starlette.types import Scope

from sfsc_bundle.described import describe_value
from sfsc_service.errors import Problem

__all__ = ["check_host", "check_page"]

LOCAL_NAME = re.compile(r"[a-z0-9_-]*")
"""A name without a dot."""
OWN_SITE = (b"same-origin", b"none")
"""Sec-Fetch-Site of an own page, and of an address that was typed."""


def check_host(scope: Scope, headers: Mapping[bytes, bytes], hosts: Collection[str]) -> None:
    """Check the Host header.

    Args:
        hosts: names that are served beside those that always are.

    Raises:
        Problem: invalid_request (no Host, or two), foreign_host.
    """
    sent = headers.get(b"host")
    if sent is None:
        if scope["http_version"] != "1.0":
            raise Problem("invalid_request", "Host: must be sent once, found none")
        return
    if sum(name == b"host" for name, _ in scope["headers"]) > 1:
        raise Problem("invalid_request", "Host: must be sent once, found several")
    host = _name(sent)
    if LOCAL_NAME.fullmatch(host):
        return
    if host not in hosts and not _is_own_address(host, scope):
        found = describe_value(sent.decode("latin-1"))
        raise Problem(
            "foreign_host",
            f"Host: must be a name of this service, found {found}; the setting hosts (SFSC_HOSTS) adds names",
        )


def check_page(scope: Scope, headers: Mapping[bytes, bytes], origins: Collection[bytes], *, link: bool) -> None:
    """Check that no page of another site has sent the request.

    Args:
        origins: those whose pages may.
        link: whether following a link from another site is allowed.

    Raises:
        Problem: foreign_origin.
    """
    origin = headers.get(b"origin")
    site = headers.get(b"sec-fetch-site")
    if origin is None:
        followed = link and scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
        if site is None or site in OWN_SITE or followed:
            return
        found = f"Sec-Fetch-Site {describe_value(site.decode('latin-1'))}"
    else:
        scheme, _, name = origin.partition(b"://")
        own = (scope["scheme"].encode(), b"https")  # the second one where a proxy has ended TLS
        if (name == headers.get(b"host") and scheme in own) or origin in origins:
            return
        found = describe_value(origin.decode("latin-1"))
    raise Problem(
        "foreign_origin",
        f"Origin: must be a page of this service, found {found}; the setting cors_origins (SFSC_CORS_ORIGINS) "
        "adds others, and a proxy must pass the Host header on",
    )


def _name(host: bytes) -> str:
    """A Host header without its port, in lower case, IPv6 addresses without brackets."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


def _is_own_address(host: str, scope: Scope) -> bool:
    """Whether a name is a loopback address, or the address that the connection came to."""
    server: str = (scope.get("server") or ("",))[0]
    if host == server.removeprefix("::ffff:"):  # how an IPv6 socket names a client of IPv4
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

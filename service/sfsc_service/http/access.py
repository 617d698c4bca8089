"""What a request needs to reach a route: declared beside each endpoint, and closed where nothing is declared.

health   nothing at all, so that a load balancer gets an answer under any name
open     no key; pages and documents, which are the same for everybody
read     a key with this scope: embed, search, and look at the gallery
write    a key with this scope: insert, replace, change and remove items
admin    a key with this scope: what an operator looks at
metrics  as admin; as open where the setting open_metrics is on
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from sfsc_service.errors import StartError

__all__ = ["HEALTH_PATHS", "Access", "AccessTable", "KeyScope", "access_of", "needs"]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

KeyScope = Literal["read", "write", "admin"]
Access = KeyScope | Literal["health", "open", "metrics"]

ATTRIBUTE = "sfsc_access"
HEALTH_PATHS = frozenset({"/livez", "/readyz"})
"""Of the routes that need "health", for what must know them before a request is routed."""


def needs(access: Access) -> Callable[[Endpoint], Endpoint]:
    """Declare what a request needs to reach this endpoint."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, ATTRIBUTE, access)
        return endpoint

    return declare


def access_of(route: BaseRoute) -> Access:
    """What a route needs. Raises StartError where its endpoint declares nothing."""
    access: Access | None = getattr(getattr(route, "endpoint", None), ATTRIBUTE, None)
    if access is None:
        raise StartError(f"the route {getattr(route, 'path', route)} declares no access; see http/access.py")
    return access


class AccessTable:
    """What each request needs, by the routes that will answer it.

    Raises:
        StartError: a route declares no access.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = [(route, access_of(route)) for route in routes]
        self._fixed: dict[tuple[str, bytes], Access | None] = {}
        """Of paths without parameters, found once: trying every route costs as much as all other checks."""
        for route in routes:
            path: str = getattr(route, "path", "{")
            if "{" not in path:
                for method in getattr(route, "methods", None) or ():
                    asked = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
                    self._fixed[method, path.encode()] = self._match(asked)

    def of(self, scope: Scope) -> Access | None:
        """What a request needs; None where no route answers it."""
        fixed = self._fixed.get((scope["method"], scope.get("raw_path", b"")))
        return fixed or self._match(scope)

    def _match(self, scope: Scope) -> Access | None:
        return next((access for route, access in self._routes if route.matches(scope)[0] is Match.FULL), None)

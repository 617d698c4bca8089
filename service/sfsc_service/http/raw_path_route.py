"""Routes that match the path as it was sent, before percent-decoding, so that an id may hold an encoded slash."""

from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

__all__ = ["RawPathRoute"]


class RawPathRoute(APIRoute):
    """FastAPI's route, matched against `raw_path`; its parameters are percent-decoded one by one."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a request, with decoded parameters in `path_params`."""
        raw: bytes | None = scope.get("raw_path")
        sent = scope if raw is None else {**scope, "path": raw.split(b"?")[0].decode("latin-1")}
        match, found = super().matches(sent)
        for name, value in found.get("path_params", {}).items():
            # Bytes that are not UTF-8 become surrogates, which the rules for ids refuse with a sentence.
            found["path_params"][name] = unquote(value, errors="surrogateescape") if raw else value
        return match, found

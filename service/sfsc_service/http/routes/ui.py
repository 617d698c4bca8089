"""The gallery page: each file of `page/` has a route of its own, so no path can reach any other file."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from sfsc_service.http.access import needs

__all__ = ["add_routes"]

FOLDER = Path(__file__).parents[2] / "page"


def add_routes(app: FastAPI, folder: Path = FOLDER) -> None:
    """Add `index.html` at / and the other files beside it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            route = "/" if name == "index.html" else f"/{name}"
            app.add_api_route(route, _file(path), methods=["GET", "HEAD"], include_in_schema=False)


def _file(path: Path) -> Callable[[], Awaitable[FileResponse]]:
    @needs("open")
    async def endpoint() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return endpoint

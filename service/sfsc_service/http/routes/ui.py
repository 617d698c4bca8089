"""The gallery page: every file of `page/` has a route of its own, so that no address can reach beyond them."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

__all__ = ["add_page"]

FOLDER = Path(__file__).parents[2] / "page"


def add_page(app: FastAPI, folder: Path = FOLDER) -> None:
    """Put `index.html` at / and the other files beside it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = path.relative_to(folder).as_posix()
            address = "/" if place == "index.html" else f"/{place}"
            app.add_api_route(address, _file(path), methods=["GET", "HEAD"], include_in_schema=False)


def _file(path: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def endpoint() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    return endpoint

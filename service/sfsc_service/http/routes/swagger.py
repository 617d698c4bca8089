"""/docs: Swagger UI from files of this package; no inline scripts, which the content security policy forbids."""

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse

from sfsc_service.errors import Problem
from sfsc_service.http.access import needs

__all__ = ["add_routes"]

VENDOR = Path(__file__).parents[2] / "vendor" / "swagger"
FILES = ("swagger-ui-bundle.js", "swagger-ui.css")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sfsc API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});
"""


def add_routes(app: FastAPI) -> None:
    """Add the page and its files to an application."""
    app.add_api_route("/docs", _page, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs/start.js", _start, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs/{name}", _file, methods=["GET"], include_in_schema=False)


@needs("open")
async def _page() -> Response:
    return Response(PAGE, media_type="text/html")


@needs("open")
async def _start() -> Response:
    return Response(START, media_type="text/javascript")


@needs("open")
async def _file(name: str) -> Response:
    if name not in FILES:
        raise Problem("not_found", f"name: must be one of {', '.join(FILES)}, found {name[:100]!r}", "name")
    return FileResponse(VENDOR / name, headers={"Cache-Control": "max-age=86400"})

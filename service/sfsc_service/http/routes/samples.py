"""/samples: images to search with, for visitors who have none at hand.

They are the queries of a gallery listing (see gallery/listing.py), read once, when the application is built. Only
names in the listing are served, so no path can reach any other file. Without a listing there are no samples.
"""

import logging
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from sfsc_service.errors import Problem, StartError
from sfsc_service.gallery.listing import ListedImage, read_listing
from sfsc_service.http.access import needs
from sfsc_service.http.openapi import image_content, problems
from sfsc_service.http.response_schemas import SamplesResponse
from sfsc_service.http.responses import json_response
from sfsc_service.settings import Settings

__all__ = ["add_routes"]

MAX_SAMPLES = 48

log = logging.getLogger(__name__)


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application whose `state.settings` are set."""
    app.state.samples = _samples(app.state.settings)
    app.add_api_route(
        "/samples",
        _list,
        methods=["GET"],
        tags=["gallery"],
        summary="Sample images to search with",
        response_model=None,
        responses={200: {"model": SamplesResponse}},
    )
    app.add_api_route(
        "/samples/{name}",
        _image,
        methods=["GET"],
        tags=["gallery"],
        summary="A sample image",
        response_model=None,
        responses={200: image_content(), **problems(404)},
    )


def _samples(settings: Settings) -> dict[str, ListedImage]:
    listing = settings.samples or settings.bundle / "gallery" / "gallery.json"
    if settings.samples is None and not listing.exists():
        return {}
    try:
        images = read_listing(listing).queries
    except StartError as error:
        log.warning("the sample images cannot be listed, so there are none: %s", error)
        return {}
    return {image.name: image for image in images[:MAX_SAMPLES] if _is_servable(image.path, settings)}


def _is_servable(path: Path, settings: Settings) -> bool:
    if path.is_file() and path.stat().st_size <= settings.max_image_bytes:
        return True
    log.warning(
        "sample image %s is left out: it is missing or larger than %d bytes", path, settings.max_image_bytes
    )
    return False


@needs("read")
async def _list(request: Request) -> Response:
    samples: dict[str, ListedImage] = request.app.state.samples
    return json_response(
        {
            "samples": [
                {
                    "name": name,
                    "image": f"samples/{quote(name, safe='')}",
                    "metadata": sample.metadata,
                    "item": sample.item,
                }
                for name, sample in samples.items()
            ]
        }
    )


@needs("read")
async def _image(request: Request, name: str) -> Response:
    samples: dict[str, ListedImage] = request.app.state.samples
    if name not in samples:
        raise Problem("not_found", f"name: must be one that /samples lists, found {name[:100]!r}", "name")
    return FileResponse(
        samples[name].path,
        headers={"Cache-Control": "no-cache", "Content-Security-Policy": "default-src 'none'; sandbox"},
    )

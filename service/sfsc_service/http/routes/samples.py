"""/samples: images to search with, for visitors who have none at hand.

They are the queries of a gallery's listing (see listing.py), read once when the app is built; a name that is not
in it leads nowhere, so no address can reach beyond them. Without a listing there are none.
"""

import logging
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from sfsc_service.errors import Problem, StartError
from sfsc_service.gallery.listing import Listed, read_listing
from sfsc_service.http.openapi import problems
from sfsc_service.http.responses import json_response
from sfsc_service.http.schemas import SamplesAnswer
from sfsc_service.settings import Settings

__all__ = ["add_samples"]

MAX_SAMPLES = 48

log = logging.getLogger(__name__)


def add_samples(app: FastAPI) -> None:
    """Put the routes on an app whose `state.settings` are set."""
    app.state.samples = _samples(app.state.settings)
    app.add_api_route(
        "/samples",
        _list,
        methods=["GET"],
        tags=["gallery"],
        summary="Sample images to search with",
        response_model=None,
        responses={200: {"model": SamplesAnswer}},
    )
    app.add_api_route(
        "/samples/{name}",
        _image,
        methods=["GET"],
        tags=["gallery"],
        summary="A sample image",
        response_model=None,
        responses={
            200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
            **problems(404),
        },
    )


def _samples(settings: Settings) -> dict[str, Listed]:
    listing = settings.samples or settings.bundle / "gallery" / "gallery.json"
    if settings.samples is None and not listing.exists():
        return {}
    try:
        images = read_listing(listing).queries
    except StartError as error:
        log.warning("no sample images: %s", error)
        return {}
    return {image.name: image for image in images[:MAX_SAMPLES] if _fits(image.path, settings)}


def _fits(path: Path, settings: Settings) -> bool:
    if path.is_file() and path.stat().st_size <= settings.max_image_bytes:
        return True
    log.warning("sample image %s is missing or larger than %d bytes", path, settings.max_image_bytes)
    return False


async def _list(request: Request) -> Response:
    samples: dict[str, Listed] = request.app.state.samples
    return json_response(
        {
            "samples": [
                {"name": name, "image": f"samples/{quote(name, safe='')}", "metadata": sample.metadata}
                for name, sample in samples.items()
            ]
        }
    )


async def _image(request: Request, name: str) -> Response:
    samples: dict[str, Listed] = request.app.state.samples
    if name not in samples:
        raise Problem("not_found", f"name: must be one that /samples lists, found {name[:100]!r}", "name")
    return FileResponse(
        samples[name].path,
        headers={"Cache-Control": "no-cache", "Content-Security-Policy": "default-src 'none'; sandbox"},
    )

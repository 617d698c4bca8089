"""/demo/load: the rate of the demo's simulated load.

`create_app` adds these routes only where it is told to, which `sfsc demo` does on a loopback address.
"""

import asyncio
import logging
from collections.abc import Iterable

from fastapi import FastAPI, Request, Response

from sfsc_bundle.errors import ImageError
from sfsc_bundle.manifest import Preprocessing
from sfsc_service.errors import Problem
from sfsc_service.gallery.listing import ListedImage
from sfsc_service.gallery.simulated_load import MAX_PER_S, SimulatedLoad, small_jpeg
from sfsc_service.http.access import needs
from sfsc_service.http.request_body import query_options, validate
from sfsc_service.http.responses import json_response
from sfsc_service.http.schemas import DemoLoadOptions
from sfsc_service.lifecycle.service import Service

__all__ = ["add_routes", "open_load"]

log = logging.getLogger(__name__)


def add_routes(app: FastAPI) -> None:
    """Add the routes; `state.load` is to be what `open_load` returns."""
    app.add_api_route("/demo/load", _get, methods=["GET"], include_in_schema=False)
    app.add_api_route("/demo/load", _put, methods=["PUT"], include_in_schema=False)


async def open_load(service: Service, samples: Iterable[ListedImage]) -> SimulatedLoad | None:
    """A load of searches with the sample images; None where there is no sample that can be read."""
    images = await asyncio.to_thread(_read, samples, service.manifest.preprocessing)
    return SimulatedLoad(service.gallery, images) if images else None


def _read(samples: Iterable[ListedImage], preprocessing: Preprocessing) -> list[bytes]:
    images = []
    for sample in samples:
        try:
            images.append(small_jpeg(sample.path.read_bytes(), preprocessing))
        except (OSError, ImageError, MemoryError) as error:
            log.warning("sample image %s is left out of the simulated load: %r", sample.path, error)
    return images


@needs("read")
async def _get(request: Request) -> Response:
    _load(request).look()
    return _state(request)


@needs("admin")
async def _put(request: Request) -> Response:
    options = validate(DemoLoadOptions, query_options(request))
    _load(request).set_rate(options.per_s)
    return _state(request)


def _state(request: Request) -> Response:
    load = _load(request)
    return json_response(
        {
            "per_s": load.per_s,
            "max_per_s": MAX_PER_S,
            "open": load.open,
            "answered": load.answered,
            "refused": load.refused,
            "capacity_per_s": _capacity(request.app.state.service),
        }
    )


def _capacity(service: Service) -> dict[str, float]:
    """Images a second that the networks of each width are measured to embed, in their best batch size."""
    workers = service.embedder.batcher.worker_pool.working
    return {
        width: round(
            workers * 1000 * max((images / cost.median_ms for images, cost in sizes.items()), default=0), 1
        )
        for width, sizes in service.embedder.costs.table().items()
    }


def _load(request: Request) -> SimulatedLoad:
    load: SimulatedLoad | None = request.app.state.load
    if load is None:
        raise Problem("not_found", "load: there are no sample images to search with, so there is no load")
    return load

"""State of the service: /widths, /livez, /readyz and /metrics."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from sfsc_service.engine.policy import expected_quality
from sfsc_service.http.access import needs
from sfsc_service.http.response_schemas import HealthResponse, WidthsResponse
from sfsc_service.http.responses import json_response
from sfsc_service.http.routes.quality import measured_json
from sfsc_service.lifecycle.service import Service

__all__ = ["add_routes"]

LIMITS = (
    "max_k",
    "max_images",
    "max_items",
    "max_image_bytes",
    "max_image_pixels",
    "max_json_bytes",
    "max_body_bytes",
)
"""Settings that bound what a client may send."""


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/widths",
        _widths,
        methods=["GET"],
        tags=["service"],
        summary="What each width is and costs, and how many items the gallery holds of each",
        response_model=None,
        responses={200: {"model": WidthsResponse}},
    )
    for path, endpoint, summary in (
        ("/livez", _livez, "Whether the process is alive"),
        ("/readyz", _readyz, "Whether the service can take work"),
    ):
        app.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            tags=["service"],
            summary=summary,
            response_model=None,
            responses={
                200: {"model": HealthResponse},
                503: {"model": HealthResponse, "description": "It is not; `reasons` says why"},
            },
        )
    app.add_api_route(
        "/metrics",
        _metrics,
        methods=["GET"],
        tags=["service"],
        summary="Prometheus metrics",
        response_model=None,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=Response,
    )


@needs("read")
async def _widths(request: Request) -> Response:
    service: Service = request.app.state.service
    manifest, settings = service.manifest, service.settings
    quality = service.quality.status()
    composition, approximate = service.gallery.composition(), service.gallery.approximate
    return json_response(
        {
            "model": manifest.name,
            "space": manifest.space,
            "compatible_with": manifest.compatible_with,
            "dim": manifest.dimension,
            "widths": _widths_with_costs(service, composition),
            "floor_width": service.embedder.catalog.floor,
            "slo_ms": settings.slo_ms,
            "quality": quality.quality.model_dump(mode="json"),
            "quality_measured": measured_json(quality),
            "gallery": {
                "items": sum(composition.values()),
                "widths": composition,
                "approximate": approximate and approximate._asdict(),
            },
            "heal": asdict(service.healer.progress()),
            "demo_load": getattr(request.app.state, "load", None) is not None,
            "limits": {name: getattr(settings, name) for name in LIMITS},
        }
    )


def _widths_with_costs(service: Service, composition: Mapping[str, int]) -> list[dict[str, Any]]:
    catalog = service.embedder.catalog
    table = service.embedder.costs.table()
    return [
        {
            "width": submodel.name,
            "precision": submodel.precision,
            "parameters": submodel.parameters,
            "macs": submodel.macs,
            "gflops": 2e-9 * submodel.macs,
            "predicted_mean_ap": round(expected_quality(catalog, submodel.name, composition), 2),
            "latency_ms": round(service.embedder.costs.estimate(submodel.name, 1), 4),
            "batch_ms": {str(images): round(cost.median_ms, 4) for images, cost in table[submodel.name].items()},
        }
        for submodel in service.manifest.submodels
    ]


@needs("health")
async def _livez(request: Request) -> Response:
    service: Service = request.app.state.service
    return _health(service.health.not_alive(), service.health.notes())


@needs("health")
async def _readyz(request: Request) -> Response:
    service: Service = request.app.state.service
    return _health(service.health.not_ready(), service.health.notes())


def _health(reasons: list[str], notes: list[str]) -> Response:
    status = "failing" if reasons else "ok"
    return json_response({"status": status, "reasons": reasons, "notes": notes}, 503 if reasons else 200)


@needs("metrics")
async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    service.metrics.set_items(service.stores.compositions())
    return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)

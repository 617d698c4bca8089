"""/collections: several galleries in one service, and the routes of a gallery for each of them."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from sfsc_service.gallery.collections import CollectionStatus
from sfsc_service.http.access import needs
from sfsc_service.http.audit import AuditedWrite
from sfsc_service.http.collection import CollectionName, declare_collection
from sfsc_service.http.openapi import problems
from sfsc_service.http.raw_path_route import RawPathRoute
from sfsc_service.http.response_schemas import CollectionResponse, CollectionsResponse
from sfsc_service.http.responses import json_response
from sfsc_service.http.routes import bulk, duplicates, items, search
from sfsc_service.lifecycle.service import Service

__all__ = ["PREFIX", "add_routes"]

PREFIX = "/collections/{collection}"
OF_A_GALLERY = (search, duplicates, items, bulk)
"""Modules whose routes are there for each collection, too."""


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/collections",
        _list,
        methods=["GET"],
        tags=["collections"],
        summary="The collections, and how many items each has",
        response_model=None,
        responses={200: {"model": CollectionsResponse}},
    )
    app.add_api_route(
        PREFIX,
        _get,
        methods=["GET"],
        tags=["collections"],
        summary="One collection",
        response_model=None,
        responses={200: {"model": CollectionResponse}, **problems(404, 422)},
    )
    app.add_api_route(
        PREFIX,
        _create,
        methods=["PUT"],
        tags=["collections"],
        summary="Make a collection, unless it is there",
        response_model=None,
        responses={
            200: {"model": CollectionResponse, "description": "It is there already"},
            201: {"model": CollectionResponse, "description": "It is new"},
            **problems(422, 429, 503),
        },
    )
    app.add_api_route(
        PREFIX,
        _delete,
        methods=["DELETE"],
        status_code=204,
        tags=["collections"],
        summary="Remove a collection with all its items",
        response_model=None,
        responses=problems(404, 422, 429, 503),
    )
    _add_galleries(app)


def _add_galleries(app: FastAPI) -> None:
    galleries = APIRouter(
        prefix=PREFIX,
        route_class=RawPathRoute,
        dependencies=[Depends(declare_collection)],
        responses=problems(404, 422),
    )
    for module in OF_A_GALLERY:
        module.add_routes(galleries)
    # `include_router` would hide the routes, and what access they need, in an object of its own.
    app.routes.extend(galleries.routes)


@needs("read")
async def _list(request: Request) -> Response:
    service: Service = request.app.state.service
    collections = service.collections
    return json_response({"collections": [_json(collections.status(name)) for name in collections.names()]})


@needs("read")
async def _get(request: Request, collection: CollectionName) -> Response:
    service: Service = request.app.state.service
    return json_response(_json(service.collections.status(collection)))


@needs("admin")
async def _create(request: Request, collection: CollectionName) -> Response:
    service: Service = request.app.state.service
    with AuditedWrite(request, "create", f"collection {collection!r}") as write:
        created = await service.collections.create(collection)
        write.outcome = "created" if created else "unchanged"
    return json_response(_json(service.collections.status(collection)), 201 if created else 200)


@needs("admin")
async def _delete(request: Request, collection: CollectionName) -> Response:
    service: Service = request.app.state.service
    with AuditedWrite(request, "delete", f"collection {collection!r}") as write:
        await service.collections.delete(collection)
        write.outcome = "removed"
    return Response(status_code=204)


def _json(status: CollectionStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "items": sum(status.widths.values()),
        "widths": status.widths,
        "approximate": status.approximate and status.approximate._asdict(),
    }

"""The collection that a request is about: the one that its path names, or `default`.

Every route of a gallery is there twice, as /… and as /collections/{collection}/….
"""

from typing import Annotated

from fastapi import Path, Request

from sfsc_service.gallery.gallery import Gallery
from sfsc_service.lifecycle.service import Service
from sfsc_service.store.collections import DEFAULT

__all__ = ["CollectionName", "collection_of", "declare_collection", "gallery_of"]

CollectionName = Annotated[str, Path(description="the name of a collection, such as `default`")]


async def declare_collection(collection: CollectionName) -> None:
    """Put the path's parameter into the OpenAPI document; endpoints ask `gallery_of`."""


def collection_of(request: Request) -> str:
    """The name of the collection, which need not exist."""
    name: str = request.path_params.get("collection", DEFAULT)
    return name


def gallery_of(request: Request) -> Gallery:
    """The gallery of the collection. Raises Problem: collection_not_found."""
    service: Service = request.app.state.service
    return service.collections.gallery(collection_of(request))

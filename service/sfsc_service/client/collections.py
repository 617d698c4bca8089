"""The calls about collections themselves; the client's argument `collection` says what the others are about."""

import httpx

from sfsc_service.client.answers import CollectionAnswer, answer_reader
from sfsc_service.client.call import Call, Prepared, Route, quoted

__all__ = ["CollectionRoutes"]


class CollectionRoutes:
    """The methods of both clients that list, make and remove collections."""

    @Route
    def collections(self) -> Prepared[list[CollectionAnswer]]:
        """All collections, by name, and how many items each has."""

        def read(response: httpx.Response) -> list[CollectionAnswer]:
            found: list[CollectionAnswer] = response.json()["collections"]
            return found

        return Call("GET", "/collections", read)

    @Route
    def collection(self, name: str) -> Prepared[CollectionAnswer]:
        """One collection, and how many items it has."""
        return Call("GET", _path(name), answer_reader(CollectionAnswer))

    @Route
    def create_collection(self, name: str) -> Prepared[CollectionAnswer]:
        """Make a collection, unless it is there."""
        return Call("PUT", _path(name), answer_reader(CollectionAnswer))

    @Route
    def delete_collection(self, name: str) -> Prepared[None]:
        """Remove a collection with all its items."""
        return Call("DELETE", _path(name), lambda _: None, repeat="if refused")


def _path(name: str) -> str:
    return f"/collections/{quoted(name)}"

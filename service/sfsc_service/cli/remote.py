"""What the commands that call a running service have in common: its address, and options that are JSON."""

import json
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator

from sfsc_service.cli.printing import PrintingCommand
from sfsc_service.client import Client
from sfsc_service.settings import http_url, setting

__all__ = ["GalleryCommand", "JsonObject", "ServiceCommand", "parsed", "readable"]

_LOCAL = "http://127.0.0.1:8000"


def parsed(text: str | None) -> dict[str, Any] | None:
    """A JSON object as it was typed. Raises ValueError where it is none."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def _checked(text: str) -> str:
    parsed(text)
    return text


JsonObject = Annotated[str, AfterValidator(_checked)]
"""Text, because pydantic-settings would read `a=b` as an object, too."""


def readable(url: str) -> str:
    """The same address. Raises ValueError where it is none of a service."""
    try:
        is_whole = bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        is_whole = False
    if not is_whole:
        raise ValueError(f"must be an address such as {_LOCAL}")
    return url


class ServiceCommand(PrintingCommand):
    """The options of every command that calls a running service."""

    url: Annotated[str, http_url(_LOCAL), AfterValidator(readable)] = setting(
        _LOCAL, "URL", "the address of the running service"
    )

    def client(self) -> Client:
        """A client of the service; to be closed."""
        return Client(self.url)


class GalleryCommand(ServiceCommand):
    """The options of every command that is about one gallery of a running service."""

    collection: str | None = setting(None, "name", "the collection whose items are meant; unset: default")

    def client(self) -> Client:
        """A client of the service, for the collection; to be closed."""
        return Client(self.url, collection=self.collection)

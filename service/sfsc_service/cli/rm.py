"""`sfsc rm`: remove items from the gallery of a running service."""

from typing import Self

from pydantic import model_validator
from pydantic_settings import CliPositionalArg

from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.shown import escaped
from sfsc_service.client import Client
from sfsc_service.settings import setting

__all__ = ["Remove"]

MAX_IDS = 1000


class Remove(GalleryCommand):
    """Remove items by their ids, or all that meet a filter, from the gallery of a running service.

    example: sfsc rm cat/1.jpg
    example: sfsc rm cat/1.jpg cat/2.jpg
    example: sfsc rm --filter '{"camera": {"$lt": 3}}'
    """

    ids: CliPositionalArg[list[str]] = setting([], "ids", "the items' ids")
    filter: JsonObject | None = setting(None, "JSON", "remove all items that meet this filter")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if bool(self.ids) == (self.filter is not None):
            found = "both" if self.ids else "neither"
            raise ValueError(f"exactly one of IDS and --filter must be given; found {found}")
        return self

    def run(self) -> None:
        """Remove, and print what was removed. Raises ServiceError, also where there is no item of that id."""
        with self.client() as client:
            if len(self.ids) == 1:
                client.delete(self.ids[0])
                removed: str | int = self.ids[0]
            elif self.ids:
                removed = _remove_all(client, self.ids)
            else:
                removed = _remove_matching(client, parsed(self.filter) or {})
        if self.as_json:
            self.print_json({"removed": removed})
        else:
            print(escaped(f"removed {removed}" if isinstance(removed, str) else f"removed {removed} items"))


def _remove_all(client: Client, ids: list[str]) -> int:
    """Remove in calls of so many as one may name."""
    parts = (ids[start : start + MAX_IDS] for start in range(0, len(ids), MAX_IDS))
    return sum(client.delete_many(part)["removed"] for part in parts)


def _remove_matching(client: Client, filter: dict[str, object]) -> int:
    """Remove in calls of bounded size, until nothing meets the filter."""
    removed = 0
    while True:
        answer = client.delete_matching(filter)
        removed += answer["removed"]
        if not answer["removed"] or not answer["remaining"]:
            return removed

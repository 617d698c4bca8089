"""`sfsc rm`: remove items from the gallery of a running service."""

from typing import Self

from pydantic import model_validator
from pydantic_settings import CliPositionalArg

from sfsc_service.cli.counted import counted
from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.shown import escaped
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.settings import setting

__all__ = ["Remove"]

MAX_IDS = 1000
SHOWN = 10
"""Ids that the sentence about missing items names."""


class Remove(GalleryCommand):
    """Remove items by their ids, or all that meet a filter, from the gallery of a running service.

    Ids that are not there are named at the end, and the exit code is then 1; what else was named is removed.

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
        """Remove, and print what was removed.

        Raises:
            ServiceError: the service refuses to, or cannot be reached.
            StartError: there was no item of some of the ids, the others are removed; an id is not UTF-8.
        """
        if any("\ud800" <= character <= "\udfff" for one in self.ids for character in one):
            raise StartError("id: must be UTF-8")  # a name of a file may be none
        with self.client() as client:
            missing: list[str] = []
            if self.filter is not None:
                removed = _remove_matching(client, parsed(self.filter) or {})
            else:
                removed, missing = _remove_all(client, list(dict.fromkeys(self.ids)))
        if self.as_json:
            self.print_json({"removed": removed, "missing": missing})
        elif removed or not missing:
            print(escaped(f"removed {self.ids[0] if len(self.ids) == 1 else counted(removed, 'item')}"))
        if missing:
            raise StartError(_told(missing))


def _remove_all(client: Client, ids: list[str]) -> tuple[int, list[str]]:
    """Remove in calls of as many as one may name; how many there were, and the ids that were not there."""
    removed, missing = 0, []
    for start in range(0, len(ids), MAX_IDS):
        answer = client.delete_many(ids[start : start + MAX_IDS])
        removed += answer["removed"]
        missing += answer["missing"]
    return removed, missing


def _told(missing: list[str]) -> str:
    names = ", ".join(map(repr, missing[:SHOWN]))
    further = f" and {len(missing) - SHOWN} more (see --json)" if len(missing) > SHOWN else ""
    return f"ids: no {'item' if len(missing) == 1 else 'items'} {names}{further} in the gallery"


def _remove_matching(client: Client, filter: dict[str, object]) -> int:
    """Remove in calls of bounded size, until nothing meets the filter."""
    removed = 0
    while True:
        answer = client.delete_matching(filter)
        removed += answer["removed"]
        if not answer["removed"] or not answer["remaining"]:
            return removed

"""`sfsc ls`: the items in the gallery of a running service."""

import itertools
import json

from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.table import print_table
from sfsc_service.settings import setting

__all__ = ["List"]

PAGE = 1000


class List(GalleryCommand):
    """List the items in the gallery of a running service, in the order of their ids.

    example: sfsc ls
    example: sfsc ls --filter '{"identity": "cat"}' --json
    """

    filter: JsonObject | None = setting(None, "JSON", "only items that meet this filter")
    limit: int | None = setting(None, "items", "the most items to list; unset: all", ge=1)

    def run(self) -> None:
        """Print the items. Raises ServiceError."""
        page = min(PAGE, self.limit or PAGE)
        with self.client() as client:
            items = list(itertools.islice(client.items(filter=parsed(self.filter), limit=page), self.limit))
        if self.as_json:
            self.print_json(items)
            return
        rows = [
            (
                item["id"],
                item["width"],
                "yes" if item["image"] else "no",
                json.dumps(item["metadata"], ensure_ascii=False),
            )
            for item in items
        ]
        print_table(("id", "width", "image", "metadata"), rows)

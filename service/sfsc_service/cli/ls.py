"""`sfsc ls`: the items in the gallery of a running service."""

import itertools
import json
import sys
import textwrap
from collections.abc import Iterable

from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.shown import escaped
from sfsc_service.cli.table import print_table
from sfsc_service.client.answers import ItemAnswer
from sfsc_service.settings import setting

__all__ = ["List"]

PAGE = 1000
SHOWN = 100
"""Items in a table, if not told otherwise."""


class List(GalleryCommand):
    """List the items in the gallery of a running service, in the order of their ids.

    A table has the first 100 of them, and says how many there are; JSON has all.

    example: sfsc ls
    example: sfsc ls --limit unset
    example: sfsc ls --filter '{"identity": "cat"}' --json
    """

    filter: JsonObject | None = setting(None, "JSON", "only items that meet this filter")
    limit: int | None = setting(
        SHOWN, "items", "the most items to list; `unset` lists all, as --json does where no limit is given", ge=1
    )

    def run(self) -> None:
        """Print the items. Raises ServiceError."""
        given = self.limit if not self.as_json or "limit" in self.model_fields_set else None
        wanted = parsed(self.filter)
        with self.client() as client:
            items = itertools.islice(client.items(filter=wanted, limit=min(PAGE, given or PAGE)), given)
            if self.as_json:
                _print_list(items)
                return
            shown = list(items)
            _print_table(shown)
            if len(shown) == given and (there := client.count(filter=wanted)) > given:
                more = f"{given} of {there} items are shown; --limit unset shows all, --filter chooses"
                print(f"sfsc: {more}", file=sys.stderr)


def _print_table(items: Iterable[ItemAnswer]) -> None:
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


def _print_list(items: Iterable[ItemAnswer]) -> None:
    """A JSON list, whose items are printed as they come: a gallery may be larger than the memory."""
    before = "["
    for item in items:
        print(before)
        text = textwrap.indent(json.dumps(item, ensure_ascii=False, indent=2), "  ", lambda _: True)
        lines = [escaped(line) for line in text.split("\n")]
        print("\n".join(lines), end="")
        before = ","
    print("[]" if before == "[" else "\n]")

"""`sfsc count`: how many items the gallery of a running service holds."""

from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.cli.shown import escaped
from sfsc_service.settings import setting

__all__ = ["Count"]


class Count(GalleryCommand):
    """Count the items in the gallery of a running service, in all and by the width that embedded them.

    example: sfsc count
    example: sfsc count --filter '{"identity": "cat"}'
    """

    filter: JsonObject | None = setting(None, "JSON", "count only items that meet this filter")

    def run(self) -> None:
        """Print the counts. Raises ServiceError."""
        with self.client() as client:
            if self.filter is not None:
                self._print_matching(client.count(filter=parsed(self.filter)))
                return
            if self.collection is None:
                gallery = client.widths()["gallery"]
            else:
                gallery = dict(client.collection(self.collection))
        if self.as_json:
            self.print_json(gallery)
            return
        print(escaped(str(gallery["items"])))
        for width, items in gallery["widths"].items():
            print(escaped(f"  width {width}: {items}"))

    def _print_matching(self, items: int) -> None:
        if self.as_json:
            self.print_json({"items": items})
        else:
            print(items)

"""`sfsc patch`: change the metadata of an item of a running service."""

from pydantic_settings import CliPositionalArg

from sfsc_service.cli.remote import GalleryCommand, JsonObject, parsed
from sfsc_service.settings import setting

__all__ = ["Patch"]


class Patch(GalleryCommand):
    """Change the metadata of an item of a running service; its image and its vector stay as they are.

    Members of METADATA replace those of the item, and remove them where they are null.

    example: sfsc patch cat/1.jpg '{"colour": "black", "draft": null}'
    """

    id: CliPositionalArg[str] = setting(..., "id", "the item's id")
    metadata: CliPositionalArg[JsonObject] = setting(..., "JSON", "what to set and, with null, to remove")

    def run(self) -> None:
        """Change the item, and print its metadata. Raises ServiceError, also where there is no item of that id."""
        with self.client() as client:
            item = client.patch(self.id, parsed(self.metadata) or {})
        self.print_json(item if self.as_json else item["metadata"])

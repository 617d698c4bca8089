"""`sfsc collections`: the galleries of a running service; makes and removes them."""

from typing import Self

from pydantic import model_validator

from sfsc_service.cli.remote import ServiceCommand
from sfsc_service.cli.table import print_table
from sfsc_service.settings import setting

__all__ = ["CollectionList"]


class CollectionList(ServiceCommand):
    """List the collections of a running service, or make or remove one.

    example: sfsc collections
    example: sfsc collections --create bikes
    """

    create: str | None = setting(None, "name", "make a collection of this name, unless it is there")
    delete: str | None = setting(None, "name", "remove the collection of this name with all its items")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if self.create is not None and self.delete is not None:
            raise ValueError("only one of --create and --delete may be given; found both")
        return self

    def run(self) -> None:
        """Make or remove, then print those that there are. Raises ServiceError."""
        with self.client() as client:
            if self.create is not None:
                client.create_collection(self.create)
            if self.delete is not None:
                client.delete_collection(self.delete)
            found = client.collections()
        if self.as_json:
            self.print_json(found)
            return
        rows = [
            (
                one["name"],
                str(one["items"]),
                ", ".join(f"{width}: {items}" for width, items in one["widths"].items()),
            )
            for one in found
        ]
        print_table(("collection", "items", "by width"), rows, names="collection")

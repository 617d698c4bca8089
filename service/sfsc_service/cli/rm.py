"""`sfsc rm`: remove an item from the gallery of a running service."""

from pydantic_settings import CliPositionalArg

from sfsc_service.cli.remote import ServiceCommand
from sfsc_service.settings import setting

__all__ = ["Remove"]


class Remove(ServiceCommand):
    """Remove an item from the gallery of a running service.

    example: sfsc rm cat/1.jpg
    """

    id: CliPositionalArg[str] = setting(..., "id", "the item's id")

    def run(self) -> None:
        """Remove it. Raises ServiceError, also where there is no such item."""
        with self.client() as client:
            client.delete(self.id)
        if self.as_json:
            self.print_json({"removed": self.id})
        else:
            print(f"removed {self.id}")

"""`sfsc count`: how many items the gallery of a running service holds."""

from sfsc_service.cli.remote import ServiceCommand

__all__ = ["Count"]


class Count(ServiceCommand):
    """Count the items in the gallery of a running service, in all and by the width that embedded them.

    example: sfsc count
    """

    def run(self) -> None:
        """Print the counts. Raises ServiceError."""
        with self.client() as client:
            gallery = client.widths()["gallery"]
        if self.as_json:
            self.print_json(gallery)
            return
        print(gallery["items"])
        for width, items in gallery["widths"].items():
            print(f"  width {width}: {items}")

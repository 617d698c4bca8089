"""`sfsc add`: bring the gallery of a running service in line with a folder or a CSV file."""

from collections.abc import Iterable
from pathlib import Path

from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_service.cli.image_files import ORIGIN, ImageFiles, find_images, origin_of
from sfsc_service.cli.remote import GalleryCommand
from sfsc_service.cli.upload import UploadReport, upload
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.settings import Width, setting

__all__ = ["Add"]


class Add(GalleryCommand):
    """Add the images of a folder or a CSV file to the gallery of a running service.

    An image's id is its path relative to the folder, and the folder that it lies in is its metadata `identity`.
    A CSV file has a column `path` (relative to the file) and, if you like, `id`; its other columns are metadata.
    A second run sends only what is missing or has changed since, so an interrupted run is resumed by repeating it.

    example: sfsc add photos
    example: sfsc add photos.csv --width 1.0
    example: sfsc add photos --remove
    """

    source: CliPositionalArg[Path] = setting(..., "folder or CSV", "the images to add")
    width: Width | None = setting(None, "width", "the width to embed with; unset: the service chooses")
    remove: CliToggleFlag[bool] = setting(
        False, "flag", "remove items that an earlier run added from there and that are there no longer"
    )

    def run(self) -> None:
        """Add, and print what was done.

        Raises:
            ServiceError: the service cannot be reached or fails.
            StartError: there are no images at the source, or the service has no such width.
        """
        found = find_images(self.source)
        report = UploadReport(left_out=found.left_out)
        with self.client() as client:
            self._check_width(client)
            own = {ORIGIN: origin_of(self.source)}
            there = {item["id"]: item for item in client.items(filter=own, limit=1000)}
            try:
                upload(client, found.images, there, report, lambda: self.width, self.width)
            except KeyboardInterrupt:
                told = "interrupted; what was sent stays, and the same command adds what is missing"
                Console(stderr=True).print(f"sfsc: {told}", highlight=False, soft_wrap=True)
                raise
            if self.remove:
                report.removed = _remove(client, _vanished(found, there))
        if self.as_json:
            self.print_json(report.document())
        else:
            report.print(Console())
        if report.failure is not None:
            raise report.failure

    def _check_width(self, client: Client) -> None:
        widths = [width["width"] for width in client.widths()["widths"]]
        if self.width is not None and self.width not in widths:
            raise StartError(f"width: must be one of {', '.join(widths)}, found {self.width}")


def _vanished(found: ImageFiles, there: Iterable[str]) -> set[str]:
    """The items whose images are there no longer; of an unreadable folder nobody knows."""
    unknown = tuple(f"{folder}/" for folder in found.unreadable)
    return {name for name in there if not name.startswith(unknown)} - {image.name for image in found.images}


def _remove(client: Client, ids: set[str]) -> int:
    for vanished in sorted(ids):
        client.delete(vanished)
    return len(ids)

"""`sfsc add`: bring the gallery of a running service in line with a folder or a CSV file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from pydantic import model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_service.cli.image_files import ORIGIN, ImageFiles, find_images, origin_of
from sfsc_service.cli.remote import GalleryCommand
from sfsc_service.cli.removed_items import find_removed
from sfsc_service.cli.upload import UploadReport, upload
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.settings import Width, setting
from sfsc_service.store.embedded.repair import REMOVED_ITEMS

__all__ = ["Add"]

FILTER_BYTES = 32 * 1024
"""Of the ids in one filter, which stands in the address of a request; a head may have twice as many."""
CHARACTER_BYTES = 16
"""The most that a character takes there: two escaped surrogates, whose backslashes are encoded."""


class Add(GalleryCommand):
    """Add the images of a folder or a CSV file to the gallery of a running service.

    An image's id is its path relative to the folder, and the folder that it lies in is its metadata `identity`.
    A CSV file has a column `path` (relative to the file) and, if you like, `id`; its other columns are metadata.
    A second run sends only what is missing or has changed since, so an interrupted run is resumed by repeating it.
    --again sends everything, which mends items whose stored images are damaged.

    Given the removed-items.ndjson of a data folder that was repaired, it puts back the items that are not there.

    example: sfsc add photos
    example: sfsc add photos.csv --width 1.0
    example: sfsc add photos --remove
    """

    source: CliPositionalArg[Path] = setting(
        ..., "folder or file", "the images to add: a folder, a CSV file, or a removed-items.ndjson"
    )
    width: Width | None = setting(None, "width", "the width to embed with; unset: the service chooses")
    again: CliToggleFlag[bool] = setting(False, "flag", "send what is unchanged, too")
    remove: CliToggleFlag[bool] = setting(
        False, "flag", "remove items that an earlier run added from there and that are there no longer"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.remove and self.source.name == REMOVED_ITEMS:
            raise ValueError(f"--remove must not be given with a {REMOVED_ITEMS}")
        return self

    def run(self) -> None:
        """Add, and print what was done.

        Raises:
            ServiceError: the service cannot be reached or fails.
            StartError: there are no images at the source, or the service has no such width.
        """
        removed = self.source.name == REMOVED_ITEMS
        found = find_removed(self.source) if removed else find_images(self.source)
        report = UploadReport(left_out=found.left_out)
        with self.client() as client:
            self._check_width(client)
            if removed:
                there = {}
                _leave_out_present(client, found, report)
            else:
                own = {ORIGIN: origin_of(self.source)}
                there = {item["id"]: item for item in client.items(filter=own, limit=1000)}
            try:
                known = {} if self.again else there
                upload(client, found.images, known, report, lambda: self.width, self.width)
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


def _leave_out_present(client: Client, found: ImageFiles, report: UploadReport) -> None:
    """Leave out the images of items that are there: they were put back, or are newer."""
    present = set[str]()
    for ids in _parts([image.name for image in found.images]):
        present.update(item["id"] for item in client.items(filter={"$id": {"$in": ids}}, limit=1000))
    report.unchanged = len(present)
    found.images = [image for image in found.images if image.name not in present]


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, so many at a time that a filter may name them."""
    part, size = list[str](), 0
    for one in ids:
        size += CHARACTER_BYTES * (len(one) + 3)
        if size > FILTER_BYTES:
            yield part
            part, size = [], CHARACTER_BYTES * (len(one) + 3)
        part.append(one)
    if part:
        yield part


def _vanished(found: ImageFiles, there: Iterable[str]) -> set[str]:
    """The items whose images are there no longer; of an unreadable folder nobody knows."""
    unknown = tuple(f"{folder}/" for folder in found.unreadable)
    return {name for name in there if not name.startswith(unknown)} - {image.name for image in found.images}


def _remove(client: Client, ids: set[str]) -> int:
    for vanished in sorted(ids):
        client.delete(vanished)
    return len(ids)

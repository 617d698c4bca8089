"""`sfsc add`: bring the gallery of a running service in line with a folder or a CSV file."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_settings import CliPositionalArg, CliToggleFlag
from rich.console import Console

from sfsc_bundle.progress import Bar, bar
from sfsc_service.cli.image_files import ORIGIN, ImageFiles, LeftOut, find_images, origin_of
from sfsc_service.cli.remote import ServiceCommand
from sfsc_service.client import Client
from sfsc_service.client.answers import BulkItemAnswer, ItemAnswer
from sfsc_service.errors import ServiceError, StartError
from sfsc_service.gallery.listing import ListedImage
from sfsc_service.settings import Width, setting

__all__ = ["Add"]

SHOWN_REASONS = 20


class Add(ServiceCommand):
    """Add the images of a folder or a CSV file to the gallery of a running service.

    An image's id is its path relative to the folder, and the folder that it lies in is its metadata `identity`.
    A CSV file has a column `path` (relative to the file) and, if you like, `id`; its other columns are metadata.
    A second run sends only what is missing or has changed since, so an interrupted run is resumed by repeating it.

    example: sfsc add photos
    example: sfsc add photos.csv --width 1.0
    example: sfsc add photos --remove
    """

    source: CliPositionalArg[Path] = setting(..., "folder or .csv", "the images to add")
    width: Width | None = setting(None, "width", "the width to embed with; unset: the service chooses")
    remove: CliToggleFlag[bool] = setting(
        False, "flag", "remove items that an earlier run added from there and that are there no longer"
    )

    def run(self) -> None:
        """Add, and print what was done.

        Raises:
            ServiceError: the service cannot be reached or fails.
            StartError: there are no images at the source.
        """
        origin = origin_of(self.source)
        found = find_images(self.source)
        for image in found.images[:1]:
            if ORIGIN in image.metadata:
                raise StartError(f"{self.source}: a column must not be called {ORIGIN}, which this command sets")
        report = _Report(left_out=found.left_out)
        console = Console(stderr=True)
        with self.client() as client:
            there = {item["id"]: item for item in client.items(filter={"match": {ORIGIN: origin}}, limit=1000)}
            with bar(console, "images", len(found.images)) as progress:
                limit = client.widths()["limits"]["max_image_bytes"]
                missing = _missing(found.images, there, origin, limit, report, progress)
                options: Any = {} if self.width is None else {"width": self.width}
                for result in client.put_many(missing, **options):
                    report.note(result)
                    progress.advance()
            if self.remove:
                report.removed = _remove(client, _vanished(found, there))
        self._print(report)
        if report.failure is not None:
            raise report.failure

    def _print(self, report: "_Report") -> None:
        if self.as_json:
            self.print_json(report.document())
            return
        console = Console()
        done = report.document()
        counts = ", ".join(f"{name} {done[name]}" for name in ("added", "replaced", "unchanged", "removed"))
        console.print(f"{counts}, left out {len(report.left_out)}", highlight=False)
        for one in report.left_out[:SHOWN_REASONS]:
            console.print(f"left out {one.name}: {one.reason}", markup=False, highlight=False, soft_wrap=True)
        if len(report.left_out) > SHOWN_REASONS:
            console.print(f"left out {len(report.left_out) - SHOWN_REASONS} more; --json names them all")


@dataclass(slots=True)
class _Report:
    left_out: list[LeftOut] = field(default_factory=list)
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    failure: ServiceError | None = None
    """The service's own fault; the image may be added by another run."""

    def note(self, result: BulkItemAnswer) -> None:
        """Count what became of one item."""
        if result["status"] == 200:
            self.added += result["created"]
            self.replaced += not result["created"]
            return
        self.left_out.append(LeftOut(result["id"] or "", result["detail"]))
        if result["status"] == 429 or result["status"] >= 500:
            self.failure = ServiceError(result["code"], result["detail"], result["status"])

    def document(self) -> dict[str, Any]:
        """The report as JSON."""
        left_out = [{"name": one.name, "reason": one.reason} for one in self.left_out]
        return {
            "added": self.added,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "left_out": left_out,
        }


def _missing(
    images: list[ListedImage],
    there: Mapping[str, ItemAnswer],
    origin: str,
    max_bytes: int,
    report: _Report,
    progress: Bar,
) -> Iterator[dict[str, Any]]:
    """The images that the gallery has not, or not so; the others are counted."""
    for image in images:
        metadata = {**image.metadata, ORIGIN: origin}
        try:
            data = _read(image.path, max_bytes)
        except OSError as error:
            report.left_out.append(LeftOut(image.name, f"cannot be read: {error.strerror}"))
            progress.advance()
            continue
        if data is None:  # sent, it could exceed the limit of a whole request and fail all images of its call
            report.left_out.append(LeftOut(image.name, f"must have at most {max_bytes} bytes"))
            progress.advance()
            continue
        item = there.get(image.name)
        if item and (item["image_sha256"], item["metadata"]) == (hashlib.sha256(data).hexdigest(), metadata):
            report.unchanged += 1
            progress.advance()
        else:
            yield {"id": image.name, "image": data, "metadata": metadata}


def _read(path: Path, max_bytes: int) -> bytes | None:
    """The bytes of a file, None where they are too many. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    return data if len(data) <= max_bytes else None


def _vanished(found: ImageFiles, there: Iterable[str]) -> set[str]:
    """The items whose images are there no longer; of an unreadable folder nobody knows."""
    unknown = tuple(f"{folder}/" for folder in found.unreadable)
    return {name for name in there if not name.startswith(unknown)} - {image.name for image in found.images}


def _remove(client: Client, ids: set[str]) -> int:
    for vanished in sorted(ids):
        client.delete(vanished)
    return len(ids)

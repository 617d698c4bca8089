"""Send the images that a gallery lacks or holds otherwise, and count what became of each."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from sfsc_bundle.progress import Bar, bar
from sfsc_service.cli.image_files import LeftOut
from sfsc_service.cli.shown import escaped
from sfsc_service.client import Client
from sfsc_service.client.answers import BulkItemAnswer, ItemAnswer
from sfsc_service.errors import ServiceError
from sfsc_service.gallery.listing import ListedImage

__all__ = ["UploadReport", "upload"]

SHOWN_REASONS = 20
BUSY = frozenset({"queue_full", "queue_timeout", "bulk_full", "store_busy"})
"""What a service answers for images that it had no time for; they are sent again."""
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Before images are sent again, while none gets through; after the last one they are left out."""


@dataclass(slots=True)
class UploadReport:
    """What became of the images."""

    left_out: list[LeftOut] = field(default_factory=list)
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    other_width: int = 0
    """Of the unchanged ones: those that have another width than the one that was asked for, and keep it."""
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
            "unchanged_at_other_width": self.other_width,
            "removed": self.removed,
            "left_out": left_out,
        }

    def print(self, console: Console) -> None:
        """The counts, and what was left out, as text."""
        counts = (
            f"added {self.added}, replaced {self.replaced}, unchanged {self.unchanged}, removed {self.removed}"
        )
        console.print(f"{counts}, left out {len(self.left_out)}", highlight=False)
        if self.other_width:
            kept = f"{self.other_width} unchanged images keep another width than the one that was asked for"
            console.print(f"{kept}; `sfsc rm` removes them, so that they can be added again", highlight=False)
        for one in self.left_out[:SHOWN_REASONS]:
            line = escaped(f"left out {one.name}: {one.reason}")
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if (more := len(self.left_out) - SHOWN_REASONS) > 0:
            console.print(f"left out {more} more; `sfsc add … --json` names them all", highlight=False)


def upload(
    client: Client,
    images: Sequence[ListedImage],
    there: Mapping[str, ItemAnswer],
    report: UploadReport,
    width: Callable[[], str | None],
    asked_width: str | None = None,
) -> None:
    """Send each image that `there` lacks, or has with another content or other metadata; fills in the report.

    Images that a busy service has no time for are sent again, as long as others get through.

    Args:
        there: the gallery's items by id; an image's name is the id of its item.
        width: asked for each image that is sent; None: the service chooses.
        asked_width: what unchanged images are counted against; None: they may have any width.

    Raises:
        ServiceError: the service cannot be reached or fails.
    """
    limit = client.widths()["limits"]["max_image_bytes"]
    with bar(Console(stderr=True), "images", len(images)) as progress:
        pauses = [0.0, *PAUSES_S]
        while images:
            time.sleep(pauses.pop(0))
            changed = _changed(images, there, limit, report, progress, width, asked_width)
            refused: dict[str | None, BulkItemAnswer] = {}
            again = False
            try:
                for result in client.put_many(changed):
                    if result["status"] != 200 and result["code"] in BUSY:
                        refused[result["id"]] = result
                        continue
                    if result["status"] == 200:
                        pauses = list(PAUSES_S)
                    report.note(result)
                    progress.advance()
                again = bool(pauses)
            finally:
                for result in () if again else refused.values():
                    report.note(result)
                    progress.advance()
            images = [image for image in images if again and image.name in refused]


def _changed(
    images: Sequence[ListedImage],
    there: Mapping[str, ItemAnswer],
    max_bytes: int,
    report: UploadReport,
    progress: Bar,
    width: Callable[[], str | None],
    asked_width: str | None,
) -> Iterator[dict[str, Any]]:
    """The images to send; the others are counted."""
    for image in images:
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
        if item and (item["image_sha256"], item["metadata"]) == (hashlib.sha256(data).hexdigest(), image.metadata):
            report.unchanged += 1
            report.other_width += asked_width not in (None, item["width"])
            progress.advance()
        else:
            yield {"id": image.name, "image": data, "metadata": image.metadata, "width": width()}


def _read(path: Path, max_bytes: int) -> bytes | None:
    """The bytes of a file, None where they are too many. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    return data if len(data) <= max_bytes else None

"""Repair a data folder by what a check has found. Nothing is deleted but unfinished files.

- An item whose row or vector is damaged leaves the database; its row is kept in `removed-items.ndjson`.
- An item whose image is missing or damaged stays, without an image.
- Images that no item refers to then, damaged ones among them, are moved to `images/quarantine/`.
- Indexes are built anew, and sums corrected.

Tables that SQLite cannot read, and changes that the database has lost, are beyond repair: a backup has them.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.embedded.check import CheckReport, FindingKind, open_reader
from sfsc_service.store.embedded.images import ImageFolder
from sfsc_service.store.embedded.opening import DATABASE, IMAGES, SEGMENTS
from sfsc_service.store.embedded.sqlite.repairs import forget_images, rebuild, remove_versions, rows_as_found
from sfsc_service.store.embedded.sqlite.row_checksum import row_is_whole
from sfsc_service.store.embedded.sqlite.schema import ROW_COLUMNS

__all__ = ["REMOVED_ITEMS", "removed_by", "repair_folder", "row_was_whole", "without_image"]

REMOVED_ITEMS = "removed-items.ndjson"


def repair_folder(folder: Path, report: CheckReport) -> list[str]:
    """Repair what `report` names, and say in a sentence each what was done.

    The folder must not be in use. Interrupted, it may be repeated.

    Raises:
        DatabaseError, OSError: a file cannot be read or written.
    """
    path = folder / DATABASE
    done = list[str]()
    if report.whole and not report.findings:
        return done
    removed = removed_by(report)
    if removed:
        _keep_rows(folder / REMOVED_ITEMS, rows_as_found(path, removed))
        remove_versions(path, removed)
        rows = f"their rows were added to {REMOVED_ITEMS}"
        done.append(f"removed {len(removed)} of {report.items} items, which are damaged; {rows}")
    if without := without_image(report):
        forget_images(path, without)
        done.append(f"{len(without)} items whose image was missing or damaged have none now")
    if _versions(report, "database", "row"):
        rebuild(path)
        done.append("built the indexes of the database anew, and corrected the sum of its checksums")
    done += _tidy_files(folder)
    return done


def removed_by(report: CheckReport) -> set[int]:
    """The versions that leave the gallery when what `report` names is repaired."""
    return _versions(report, "row", "vector")


def without_image(report: CheckReport) -> set[int]:
    """The versions that stay, and lose their damaged image, when what `report` names is repaired."""
    return _versions(report, "image") - removed_by(report)


def row_was_whole(row: Mapping[str, Any]) -> bool:
    """Whether a row of REMOVED_ITEMS is as it was written into the database."""
    try:
        return row_is_whole([row[name] for name in (*ROW_COLUMNS, "checksum")])
    except KeyError:
        return False


def _versions(report: CheckReport, *kinds: FindingKind) -> set[int]:
    return {finding.sequence for finding in report.findings if finding.kind in kinds}


def _keep_rows(path: Path, rows: Collection[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    sync([path, path.parent])


def _tidy_files(folder: Path) -> list[str]:
    done = []
    with closing(open_reader(folder)) as reader:
        images = ImageFolder(folder / IMAGES, reader.uses_image)
        if aside := images.set_unused_aside():
            done.append(f"moved {aside} images that no item refers to into {IMAGES}/quarantine/")
    unfinished = [*(folder / IMAGES / "temporary").glob("*"), *(folder / SEGMENTS).glob(".*.tmp")]
    for path in unfinished:
        path.unlink()
    if unfinished:
        done.append(f"deleted {len(unfinished)} unfinished files")
    return done

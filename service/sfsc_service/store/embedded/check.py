"""Check a whole data folder: every item in the database, the segments and the images, and back.

Nothing is changed. A folder that is in use is for `check_open_folder`: it looks at a copy of the database, then
again at whatever looks like damage, because items may have been replaced or deleted meanwhile.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sfsc_service.store.embedded.acknowledged import read_mark
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.opening import ACKNOWLEDGED, DATABASE, IMAGES, SEGMENTS
from sfsc_service.store.embedded.segments.inventory import Inventory, take_inventory
from sfsc_service.store.embedded.sqlite.reader import DatabaseReader
from sfsc_service.store.embedded.sqlite.schema import SCHEMA_VERSION, DatabaseError
from sfsc_service.store.errors import DatabaseLostError, FolderMismatchError, StoreFailedError

__all__ = [
    "CheckReport",
    "Finding",
    "FindingKind",
    "Look",
    "Progress",
    "check_folder",
    "check_open_folder",
    "delete_view",
    "open_reader",
]

_ROWS_AT_ONCE = 1_000
_VIEW = ".check"
_INVENTORIES = 5
"""So often files of vectors are read that are merged into others meanwhile."""

FindingKind = Literal["database", "row", "vector", "image", "leftover"]
"""Where something is wrong: the database as a whole, one item's row, vector or image. A leftover does no harm."""

Progress = Callable[[int, int], None]
"""Called with how many items and images are checked, and how many there are."""

Look = Callable[[], None]
"""Called every now and then during long work; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject`: an item's id, or a file's path within the folder. `sequence`: of the item's version, else 0."""

    kind: FindingKind
    subject: str
    detail: str
    sequence: int = 0


@dataclass(slots=True)
class CheckReport:
    """What there is, and what was found; `whole`: nothing but leftovers."""

    items: int = 0
    images: int = 0
    vector_files: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return all(finding.kind == "leftover" for finding in self.findings)


class _Version(NamedTuple):
    sequence: int
    id: str


class _Rows(NamedTuple):
    """Numbers and ids of the items whose rows are whole, and by digest the items that refer to an image."""

    sequences: Int64
    ids: list[str]
    image_users: dict[str, list[_Version]]


def open_reader(folder: Path) -> DatabaseReader:
    """A reader of the folder's database that changes nothing.

    Raises:
        DatabaseLostError: there is no database.
        FolderMismatchError: it is of another schema.
        StoreFailedError: it cannot be read.
    """
    path = folder / DATABASE
    if not path.exists() or not path.stat().st_size:
        raise DatabaseLostError(
            f"folder: {folder} must hold a gallery; found no {DATABASE} in it, or an empty one"
        )
    try:
        reader = DatabaseReader(path, read_only=True)
        try:
            version = reader.meta().get("schema_version")
        except BaseException:
            reader.close()
            raise
    except DatabaseError as error:
        raise StoreFailedError(f"the database {path} cannot be read: {error}") from error
    if version != SCHEMA_VERSION:
        reader.close()
        raise FolderMismatchError(f"folder: {folder} must be of schema version {SCHEMA_VERSION}; found {version}")
    return reader


def check_folder(folder: Path, progress: Progress = lambda _done, _total: None) -> CheckReport:
    """Check everything in a folder that is not in use.

    Raises as `open_reader`, and OSError or DatabaseError where a file cannot be read.
    """
    return _check(folder, folder, read_mark(folder / ACKNOWLEDGED) or 0, progress)


def check_open_folder(
    folder: Path, progress: Progress = lambda _done, _total: None, look: Look = lambda: None
) -> CheckReport:
    """Check everything while the store that has the folder open goes on; leftovers are not looked for.

    Args:
        progress: may wait, as well as raise.
        look: called where waiting would keep the store's log from being reset; what it raises ends the check.

    Raises as `check_folder`, and StoreFailedError where files change too fast.
    """
    mark, view = read_mark(folder / ACKNOWLEDGED) or 0, folder / _VIEW
    delete_view(folder)
    view.mkdir()
    try:
        with closing(open_reader(folder)) as reader:
            reader.copy_to(view / DATABASE, look)
        report = _check(view, folder, mark, progress)
    finally:
        delete_view(folder)
    report.findings = _confirmed(folder, report.findings)
    return report


def delete_view(folder: Path) -> None:
    """Delete what a check of an open folder leaves where the process is killed; for the folder's owner alone."""
    shutil.rmtree(folder / _VIEW, ignore_errors=True)


def _confirmed(folder: Path, findings: Sequence[Finding]) -> list[Finding]:
    """Those that are about the database as a whole, or about versions that are still there and still damaged."""
    lost = {finding.sequence for finding in findings if finding.kind == "vector"}
    if lost:
        with closing(open_reader(folder)) as reader:
            meta = reader.meta()
        lost -= set(_inventory(folder, meta).sequences.tolist())
    numbers = sorted({finding.sequence for finding in findings if finding.sequence})
    present = set[int]()
    with closing(open_reader(folder)) as reader:
        for first in range(0, len(numbers), _ROWS_AT_ONCE):
            part = np.array(numbers[first : first + _ROWS_AT_ONCE], np.int64)
            present.update(row.sequence for row in reader.rows_at(part))
    return [
        finding
        for finding in findings
        if finding.kind == "database"
        or (finding.sequence in present and (finding.kind != "vector" or finding.sequence in lost))
    ]


def _check(folder: Path, files: Path, mark: int, progress: Progress) -> CheckReport:
    """Check the database in `folder`, and the vectors and images in `files`; change `mark` was acknowledged."""
    report = CheckReport()
    with closing(open_reader(folder)) as reader:
        meta = reader.meta()
        total = sum(reader.composition().values()) + len(reader.image_digests())
        rows = _check_rows(reader, meta, report, lambda done: progress(done, total))
        for error in reader.integrity_errors(lambda: progress(report.items, total)):
            report.findings.append(Finding("database", DATABASE, error))
    if mark > meta["last_sequence"]:
        detail = f"it ends at change {meta['last_sequence']}, and change {mark} was acknowledged"
        report.findings.append(Finding("database", DATABASE, detail))
    _check_vectors(files, meta, rows, report, lambda: progress(report.items, total))
    _check_images(files / IMAGES, rows, report, lambda done: progress(done, total))
    return report


def _check_rows(
    reader: DatabaseReader, meta: dict[str, int], report: CheckReport, progress: Callable[[int], None]
) -> _Rows:
    total, above, sequences, ids, users = 0, -(2**63), list[int](), list[str](), dict[str, list[_Version]]()
    while rows := reader.rows_above(above, _ROWS_AT_ONCE):
        for row in rows:
            report.items += 1
            if row.whole:
                total += row.checksum
                sequences.append(row.sequence)
                ids.append(row.id)
                if row.image is not None:
                    users.setdefault(row.image, []).append(_Version(row.sequence, row.id))
            else:
                detail = "its row is not as it was written"
                report.findings.append(Finding("row", row.id, detail, row.sequence))
        above = rows[-1].sequence
        progress(report.items)
    if total != meta["checksum_sum"] and not report.findings:
        detail = "the sum of the rows' checksums is not that of the rows, each of which is whole: a row is missing"
        report.findings.append(Finding("database", DATABASE, detail))
    return _Rows(np.array(sequences, np.int64), ids, users)


def _check_vectors(folder: Path, meta: dict[str, int], rows: _Rows, report: CheckReport, look: Look) -> None:
    found = _inventory(folder, meta, look)
    report.vector_files = found.files
    lost = np.flatnonzero(~np.isin(rows.sequences, found.sequences))
    for place in lost.tolist():
        detail = "no file has its vector as it was written"
        report.findings.append(Finding("vector", rows.ids[place], detail, int(rows.sequences[place])))
    # Damage that loses no item of today is in rows that were replaced or deleted since.
    report.findings += [Finding("leftover", SEGMENTS, detail) for detail in found.damaged]
    report.findings += [
        Finding("leftover", str(path.relative_to(folder)), "an unfinished file")
        for path in sorted((folder / SEGMENTS).glob(".*.tmp"))
    ]


def _inventory(folder: Path, meta: dict[str, int], look: Look = lambda: None) -> Inventory:
    """What vectors there are. Raises StoreFailedError where files vanish again and again."""
    for _ in range(_INVENTORIES):
        try:
            folder_of_vectors, numbers = folder / SEGMENTS, (meta["dimension"], meta["gallery"])
            return take_inventory(folder_of_vectors, *numbers, meta["last_sequence"], look)
        except FileNotFoundError:  # it was merged into another one meanwhile
            continue
    raise StoreFailedError("files of vectors are replaced too fast for a check; try again")


def _check_images(folder: Path, rows: _Rows, report: CheckReport, progress: Callable[[int], None]) -> None:
    for digest, users in rows.image_users.items():
        path = folder / digest[:2] / digest[2:4] / digest
        wrong = None
        try:
            if _digest_of_file(path) != digest:
                wrong = f"its image {digest} is not as it was written"
        except FileNotFoundError:
            wrong = f"its image {digest} is missing"
        except OSError as error:
            if error.errno != errno.EIO:  # which a disk says of a place that it has lost
                raise
            wrong = f"its image {digest} cannot be read ({error.strerror})"
        if wrong:
            report.findings += [Finding("image", user.id, wrong, user.sequence) for user in users]
        report.images += 1
        progress(report.items + report.images)
    unused = (path for path in sorted(folder.glob("??/??/*")) if path.name not in rows.image_users)
    for path in unused:
        name = str(path.relative_to(folder.parent))
        report.findings.append(Finding("leftover", name, "an image that no item refers to"))
    for path in sorted((folder / "temporary").glob("*")):
        report.findings.append(Finding("leftover", str(path.relative_to(folder.parent)), "an unfinished file"))


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The reader of lists: a CSV file with the columns `path,identity` and, if wanted, `camera` and `split`."""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import get_args

from sfsc_training.config import DataSection
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division, Part
from sfsc_training.data.findings import Finding
from sfsc_training.data.foreign import check_foreign
from sfsc_training.data.listing import Listed, Listing, check_given, make_dataset
from sfsc_training.errors import DataError

__all__ = ["list_csv", "read_csv"]

_NEEDED = ("path", "identity")
_COLUMNS = (*_NEEDED, "camera", "split")


def read_csv(place: Path, section: DataSection, seed: int, earlier: Division | None = None) -> Dataset:
    """Read a list as a data set.

    Args:
        earlier: the division of an earlier training, which is kept.

    Raises:
        DataError: as `list_csv` or `make_dataset`.
    """
    return make_dataset(list_csv(place), section, seed, earlier)


def list_csv(place: Path) -> Listing:
    """Read a list, or the only list in a folder. Paths are relative to the folder that it lies in.

    Every image has a camera or none has, and the same goes for its split: train, validation or test.

    Raises:
        DataError: there is no such list, it lacks a column or has an unknown one, a line is not complete, a path
            leads out of the folder or is listed twice, or none of the images exists.
    """
    if place.is_dir():
        check_foreign(place)
    file = _only_list(place) if place.is_dir() else place
    rows = _rows(file)
    folder = file.parent
    listed = [_listed(file, line, folder, row) for line, row in rows]
    check_given(file, listed, "every line")
    _check_unique(file, listed)
    missing = [one.name for one in listed if not (folder / one.name).exists()]
    if len(missing) == len(listed):
        raise DataError(
            f"{file}: none of its {len(listed)} images exists below {folder}; the first is {missing[0]}"
        )
    absent = set(missing)
    there = [one for one in listed if one.name not in absent]
    return Listing(file, there, found=(Finding("listed images that do not exist", tuple(missing)),))


def _only_list(folder: Path) -> Path:
    lists = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("."))
    if len(lists) != 1:
        found = ", ".join(path.name for path in lists) or "none"
        raise DataError(f"{folder} must hold one CSV file with the columns path,identity; found {found}")
    return lists[0]


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, cell of each column) of every line that is not empty."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            _check_header(file, header)
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"list {file} cannot be read: {error}") from error
    for line, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{file}, line {line}: must have {len(header)} cells, one per column of the header")
    if not rows:
        raise DataError(f"{file} lists no image")
    return rows


def _check_header(file: Path, header: Sequence[str]) -> None:
    missing = [name for name in _NEEDED if name not in header]
    unknown = [name for name in header if name not in _COLUMNS]
    if missing or unknown or len(set(header)) < len(header):
        raise DataError(
            f"{file}: the first line must name the columns path,identity and may name camera,split; "
            f"found {','.join(header)[:80] or 'an empty line'}"
        )


def _listed(file: Path, line: int, folder: Path, row: dict[str, str]) -> Listed:
    name, identity = row["path"].strip(), row["identity"].strip()
    if not name or not identity:
        raise DataError(f"{file}, line {line}: path and identity must not be empty")
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{file}, line {line}: path must be relative to the list's folder and stay below it; found {name}"
        )
    return Listed(folder / path, path.as_posix(), identity, _part(file, line, row), row.get("camera") or None)


def _part(file: Path, line: int, row: dict[str, str]) -> Part | None:
    found = row.get("split", "").strip()
    if not found:
        return None
    for part in get_args(Part):
        if found == part:
            return part  # type: ignore[no-any-return]
    raise DataError(f"{file}, line {line}: split must be one of {', '.join(get_args(Part))}; found {found!r}")


def _check_unique(file: Path, listed: Sequence[Listed]) -> None:
    seen: set[str] = set()
    for one in listed:
        if one.name in seen:
            raise DataError(f"{file} lists {one.name} more than once")
        seen.add(one.name)

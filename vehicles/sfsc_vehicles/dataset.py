"""The data set as a folder FOLDER/SPLIT/IDENTITY/c{camera}s{shot}.jpg, cameras c1 to c6; and a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from sfsc_vehicles.camera import CAMERAS
from sfsc_vehicles.identity import make_identity
from sfsc_vehicles.render import SIZES, render, render_jpeg

__all__ = ["Progress", "check", "contact_sheet", "first_test", "write_dataset", "write_splits"]

Progress = Callable[[int, int], None]  # images done, images in all
LIMITS = {"identities": (1, 1_000_000), "shots": (1, 1000), "workers": (1, 256), "size": SIZES}


@dataclass(frozen=True)
class _Task:
    folder: Path
    seed: int
    index: int
    shots: int
    size: int
    twin_share: float


def write_splits(
    folder: Path,
    seed: int,
    *,
    train: int,
    test: int,
    shots: int,
    size: int,
    twin_share: float,
    workers: int,
    progress: Callable[[str], Progress | None],
) -> None:
    """Write the identities 0 … train − 1 as `train`, and `test` others as `test`.

    Args:
        progress: what to call with the images done and the images in all, for each split.

    Raises:
        ValueError: a number is out of bounds.
        FileExistsError: a split has files already.
    """
    for split, count, first in (("train", train, 0), ("test", test, first_test(train))):
        write_dataset(
            folder,
            seed,
            count,
            shots,
            size,
            split,
            first=first,
            twin_share=twin_share,
            workers=workers,
            progress=progress(split),
        )


def first_test(train: int) -> int:
    """Number of the first test identity. Even, so that twins, 2k and 2k + 1, stay in one split."""
    return train + train % 2


def write_dataset(
    folder: Path,
    seed: int,
    identities: int,
    shots: int,
    size: int = 96,
    split: str = "train",
    *,
    first: int = 0,
    twin_share: float = 0.25,
    workers: int = 1,
    progress: Progress | None = None,
) -> int:
    """Write `shots` images from each camera of the identities first … first + identities − 1.

    The files do not depend on `workers`, the number of processes (started by spawn).

    Returns:
        The number of images.

    Raises:
        ValueError: a number is out of bounds, or `split` is not a plain folder name.
        FileExistsError: the split has files already.
    """
    check(identities=identities, shots=shots, size=size, workers=workers)
    if split in ("", ".", "..") or Path(split).name != split:
        raise ValueError(f"split must be a plain folder name; found {split!r}")
    target = folder / split
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"folder must be new or empty; found files in {target}")
    tasks = [_Task(target, seed, first + k, shots, size, twin_share) for k in range(identities)]
    done, total = 0, identities * shots * CAMERAS
    for written in _run(tasks, workers):
        done += written
        if progress is not None:
            progress(done, total)
    return done


def check(**numbers: int) -> None:
    """Raises ValueError for a number that is out of its bounds."""
    for name, value in numbers.items():
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in {low}..{high}; found {value}")


def contact_sheet(seed: int, identities: int, size: int = 96, *, first: int = 0, shot: int = 0) -> Image.Image:
    """An image with a row per identity and a column per camera."""
    check(identities=identities, size=size)
    vehicles = [make_identity(seed, first + k) for k in range(identities)]
    rows = [np.concatenate([render(seed, v, c, shot, size) for c in range(CAMERAS)], axis=1) for v in vehicles]
    return Image.fromarray(np.concatenate(rows))


def _run(tasks: list[_Task], workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(_write, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_write, tasks, chunksize=4)


def _write(task: _Task) -> int:
    """Write all images of one identity; returns how many."""
    identity = make_identity(task.seed, task.index, task.twin_share)
    folder = task.folder / f"v{task.index:06d}"
    folder.mkdir(parents=True)
    for camera in range(CAMERAS):
        for shot in range(task.shots):
            data = render_jpeg(task.seed, identity, camera, shot, task.size)
            (folder / f"c{camera + 1}s{shot + 1}.jpg").write_bytes(data)
    return task.shots * CAMERAS

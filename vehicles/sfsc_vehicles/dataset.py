"""The set as a folder: FOLDER/SPLIT/IDENTITY/c{camera}s{shot}.jpg, cameras c1 to c6, and as a contact sheet."""

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

__all__ = ["Progress", "check", "contact_sheet", "file_name", "write_dataset"]

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
    """Writes identities first..first+identities-1, `shots` images from each camera; returns how many images.

    The files are the same for any number of `workers` (processes started by spawn). Raises ValueError for a number
    outside its bounds or a split that is no folder name, FileExistsError if the split has anything in it.
    """
    check(identities=identities, shots=shots, size=size, workers=workers)
    if split in ("", ".", "..") or Path(split).name != split:
        raise ValueError(f"split must be a plain folder name, found {split!r}")
    target = folder / split
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"folder must be new or empty, found files in {target}")
    tasks = [_Task(target, seed, first + k, shots, size, twin_share) for k in range(identities)]
    done, total = 0, identities * shots * CAMERAS
    for written in _run(tasks, workers):
        done += written
        if progress is not None:
            progress(done, total)
    return done


def check(**numbers: int) -> None:
    """Raises ValueError for a number outside its bounds."""
    for name, value in numbers.items():
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in {low}..{high}, found {value}")


def file_name(camera: int, shot: int) -> str:
    """Cameras and shots count from 1 in file names."""
    return f"c{camera + 1}s{shot + 1}.jpg"


def contact_sheet(seed: int, identities: int, size: int = 96, *, first: int = 0, shot: int = 0) -> Image.Image:
    """One row of images per identity, one column per camera."""
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
    """All images of one identity."""
    identity = make_identity(task.seed, task.index, task.twin_share)
    folder = task.folder / f"v{task.index:06d}"
    folder.mkdir(parents=True)
    for camera in range(CAMERAS):
        for shot in range(task.shots):
            data = render_jpeg(task.seed, identity, camera, shot, task.size)
            (folder / file_name(camera, shot)).write_bytes(data)
    return task.shots * CAMERAS

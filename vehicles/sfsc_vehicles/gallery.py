"""A demo gallery: images of identities that no model was trained on, sample queries, and a description of each."""

from __future__ import annotations

import json
from pathlib import Path

from sfsc_vehicles.camera import CAMERAS, take
from sfsc_vehicles.dataset import Progress, check
from sfsc_vehicles.identity import Identity, make_identity
from sfsc_vehicles.render import render_jpeg

__all__ = ["describe", "write_gallery"]

ListedImage = dict[str, str | int]
_LOADS = {"rack": "roof rack", "box": "roof box", "ladder": "ladder", "sign": "roof sign"}


def write_gallery(
    folder: Path,
    seed: int,
    identities: int = 72,
    size: int = 128,
    *,
    first: int = 1_000_000,
    queries: int = 12,
    twin_share: float = 0.25,
    progress: Progress | None = None,
) -> int:
    """Write one image per identity and camera, `queries` other images into queries/, and gallery.json.

    Args:
        first: number of the first identity.

    Returns:
        The size of all images in bytes.

    Raises:
        ValueError: a number is out of bounds.
        FileExistsError: the folder is not empty.
    """
    check(identities=identities, size=size)
    if not 0 <= queries <= identities:
        raise ValueError(f"queries must lie in 0..identities ({identities}); found {queries}")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"folder must be new or empty; found files in {folder}")
    (folder / "queries").mkdir(parents=True)
    vehicles = [make_identity(seed, first + k, twin_share) for k in range(identities)]
    listing: dict[str, list[ListedImage]] = {"items": [], "queries": []}
    total = 0
    for done, vehicle in enumerate(vehicles, 1):
        for camera in range(CAMERAS):
            total += _write(folder, "", seed, vehicle, camera, 0, size, listing["items"])
        if progress is not None:
            progress(done * CAMERAS, identities * CAMERAS)
    for number, vehicle in enumerate(_samples(vehicles, queries)):
        camera = number % CAMERAS
        shot = _clear_shot(seed, vehicle.index, camera)
        total += _write(folder, "queries/", seed, vehicle, camera, shot, size, listing["queries"])
    text = json.dumps({"seed": seed, "size": size, **listing}, indent=1)
    (folder / "gallery.json").write_text(text + "\n", encoding="utf-8")
    return total


def describe(identity: Identity) -> dict[str, str]:
    """The visible traits of a vehicle in words; those that it has not are left out."""
    two_tone = identity.scheme != "plain" or identity.kind == "lorry"
    parts = {
        "class": identity.kind,
        "paint": identity.paint,
        "second paint": identity.second if two_tone else "",
        "stripe": f"{identity.stripe_ink} {identity.stripe}" if identity.stripe != "none" else "",
        "stickers": ", ".join(f"{mark.ink} {mark.shape}" for mark in identity.stickers),
        "load": _LOADS.get(identity.load, ""),
        "damage": identity.damage if identity.damage != "none" else "",
    }
    return {key: value for key, value in parts.items() if value}


def _write(
    folder: Path,
    prefix: str,
    seed: int,
    vehicle: Identity,
    camera: int,
    shot: int,
    size: int,
    listing: list[ListedImage],
) -> int:
    data = render_jpeg(seed, vehicle, camera, shot, size)
    name = f"{prefix}v{vehicle.index:06d}_c{camera + 1}s{shot + 1}.jpg"
    (folder / name).write_bytes(data)
    listing.append({"file": name, "identity": f"v{vehicle.index:06d}", "camera": camera + 1, **describe(vehicle)})
    return len(data)


def _samples(vehicles: list[Identity], count: int) -> list[Identity]:
    """Vehicles of all kinds in turn, so that the first few samples already differ."""
    seen: dict[str, int] = {}
    rank = {}
    for vehicle in vehicles:
        rank[vehicle.index] = seen[vehicle.kind] = seen.get(vehicle.kind, 0) + 1
    return sorted(vehicles, key=lambda vehicle: rank[vehicle.index])[:count]


def _clear_shot(seed: int, index: int, camera: int) -> int:
    """The first shot, after that of the gallery, in clear weather and with nothing in front of the vehicle."""
    shots = ((shot, take(seed, index, camera, shot)) for shot in range(1, 200))
    return next((shot for shot, it in shots if it.weather == "clear" and it.occluder == "none"), 1)

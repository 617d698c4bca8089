"""The six cameras, and the conditions of a shot: view, light, weather, place and occlusion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["CAMERAS", "LENSES", "Lens", "Shot", "plain", "take"]

PLACES = ("road", "lot", "wall", "green")
WEATHERS = ("clear", "overcast", "rain", "fog", "dusk")


@dataclass(frozen=True)
class Lens:
    """A fixed camera. Angles in degrees, azimuth from front to left; `reach`: relative distance, 1 is close."""

    azimuth: float
    elevation: float
    reach: float
    cast: tuple[float, float, float]
    saturation: float
    contrast: float
    blur: float  # standard deviation in pixels of a 96-pixel image
    noise: float  # standard deviation in grey levels
    quality: int  # of the JPEG


LENSES = (
    Lens(38, 9, 1.25, (1.00, 1.00, 1.00), 1.00, 1.00, 0.25, 2.0, 90),
    Lens(-52, 17, 1.7, (1.10, 1.00, 0.84), 1.05, 1.08, 0.40, 3.5, 82),
    Lens(142, 13, 2.3, (0.88, 0.98, 1.12), 0.85, 0.94, 0.55, 3.0, 78),
    Lens(-132, 24, 1.5, (0.96, 1.05, 0.91), 0.90, 1.05, 0.35, 5.0, 85),
    Lens(84, 6, 2.8, (1.05, 0.97, 1.02), 0.75, 0.90, 0.50, 3.0, 72),
    Lens(-40, 33, 1.9, (0.97, 1.00, 1.06), 1.12, 1.15, 0.30, 4.5, 80),
)
CAMERAS = len(LENSES)


@dataclass(frozen=True)
class Shot:
    """The conditions of one image; `detail` seeds the details that have no field of their own."""

    lens: Lens
    azimuth: float
    elevation: float
    roll: float
    fill: float  # longer side of the vehicle, as a share of the frame
    shift: tuple[float, float]  # of the vehicle's centre, in shares of the frame
    sun: tuple[float, float, float]  # unit vector towards the sun
    strength: float  # of the direct light
    exposure: float
    weather: str
    place: str
    occluder: str
    detail: int


def take(seed: int, index: int, camera: int, shot: int) -> Shot:
    """The conditions of one image, a function of these four numbers.

    Raises:
        ValueError: a number is negative, or there is no such camera.
    """
    if min(seed, index, camera, shot) < 0 or camera >= CAMERAS:
        found = f"{seed}, {index}, {camera}, {shot}"
        raise ValueError(f"seed, index, camera and shot must be >= 0 and camera < {CAMERAS}; found {found}")
    rng = np.random.default_rng([seed, index, camera, shot, 3])
    weather = str(rng.choice(WEATHERS, p=(0.46, 0.24, 0.10, 0.08, 0.12)))
    direct = {"clear": rng.uniform(0.55, 0.80), "dusk": 0.30}.get(weather, rng.uniform(0.10, 0.22))
    height, turn = np.radians(rng.uniform(14 if weather == "dusk" else 28, 62)), rng.uniform(0, 2 * np.pi)
    lens = LENSES[camera]
    return Shot(
        lens=lens,
        azimuth=lens.azimuth + rng.normal(0, 7),
        elevation=lens.elevation + rng.uniform(-2.5, 2.5),
        roll=rng.normal(0, 1.2),
        fill=rng.uniform(0.80, 0.99),
        shift=(rng.normal(0, 0.022), rng.normal(0, 0.022)),
        sun=(float(np.cos(height) * np.cos(turn)), float(np.cos(height) * np.sin(turn)), float(np.sin(height))),
        strength=float(direct),
        exposure=rng.uniform(0.9, 1.12),
        weather=weather,
        place=str(rng.choice(PLACES)),
        occluder=str(rng.choice(("none", "pole", "bollard", "sign", "car"), p=(0.70, 0.10, 0.08, 0.06, 0.06))),
        detail=int(rng.integers(2**62)),
    )


def plain(camera: int) -> Shot:
    """A camera's view in even daylight on an empty road, without any random variation."""
    lens = LENSES[camera]
    return Shot(
        lens=replace(lens, cast=(1.0, 1.0, 1.0), saturation=1.0, contrast=1.0, blur=0.0, noise=0.0),
        azimuth=lens.azimuth,
        elevation=lens.elevation,
        roll=0.0,
        fill=0.9,
        shift=(0.0, 0.0),
        sun=(0.35, 0.55 if lens.azimuth > 0 else -0.55, 0.758),
        strength=0.6,
        exposure=1.0,
        weather="clear",
        place="road",
        occluder="none",
        detail=camera,
    )

"""The background: sky and ground, with a street, a car park, a wall or greenery behind the vehicle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from sfsc_vehicles.camera import Shot
from sfsc_vehicles.identity import Colour
from sfsc_vehicles.mesh import Floats
from sfsc_vehicles.view import View

__all__ = ["backdrop", "ink"]

Span = tuple[float, float]
_SKIES: dict[str, tuple[Colour, Colour]] = {  # zenith, horizon
    "clear": ((0.38, 0.56, 0.80), (0.80, 0.87, 0.92)),
    "overcast": ((0.66, 0.69, 0.73), (0.82, 0.83, 0.84)),
    "rain": ((0.46, 0.49, 0.53), (0.64, 0.66, 0.68)),
    "fog": ((0.76, 0.77, 0.78), (0.83, 0.83, 0.83)),
    "dusk": ((0.20, 0.23, 0.38), (0.78, 0.55, 0.45)),
}
_GROUNDS: tuple[Colour, ...] = (
    (0.36, 0.36, 0.37), (0.30, 0.30, 0.32), (0.42, 0.41, 0.40), (0.52, 0.50, 0.47), (0.48, 0.46, 0.43),
)  # fmt: skip
_WALLS: tuple[Colour, ...] = (
    (0.58, 0.36, 0.28), (0.72, 0.68, 0.60), (0.55, 0.57, 0.60), (0.78, 0.76, 0.72), (0.45, 0.50, 0.54),
    (0.66, 0.56, 0.42),
)  # fmt: skip
_LEAVES: tuple[Colour, ...] = ((0.24, 0.34, 0.20), (0.31, 0.40, 0.23), (0.20, 0.29, 0.20), (0.39, 0.42, 0.26))
_KERB: Colour = (0.62, 0.61, 0.59)
_LINE: Colour = (0.81, 0.81, 0.77)


def ink(colour: Sequence[float] | Floats) -> tuple[int, int, int]:
    """A colour with components in 0..1 as Pillow's 0..255."""
    red, green, blue = (min(max(int(255 * c + 0.5), 0), 255) for c in colour)
    return red, green, blue


def backdrop(view: View, shot: Shot, canvas: int, light: float) -> Image.Image:
    """Everything behind the vehicle, `canvas` pixels square; `light` scales the ground and what stands on it."""
    rng = np.random.default_rng([shot.detail, 1])
    ground = _pick(_GROUNDS, rng) * rng.uniform(0.85, 1.12)
    image = _sky_and_ground(view, shot, canvas, ground * light)
    stage = _Stage(view, ImageDraw.Draw(image), light, -1.0 if shot.azimuth > 0 else 1.0)
    {"road": _road, "lot": _lot, "wall": _wall, "green": _green}[shot.place](stage, rng)
    return _grain(image, rng)


class _Stage:
    """Draws rectangles in metres: x along the vehicle, y away from the vehicle and the camera, z up."""

    def __init__(self, view: View, draw: ImageDraw.ImageDraw, light: float, far: float) -> None:
        self.view, self.draw, self.light, self.far = view, draw, light, far

    def polygon(self, points: Sequence[tuple[float, float, float]], colour: Sequence[float] | Floats) -> None:
        clipped = self.view.clip(np.array(points) * (1.0, self.far, 1.0))
        if len(clipped) >= 3:
            flat = self.view.project(clipped).ravel().tolist()
            self.draw.polygon(flat, fill=ink(np.asarray(colour) * self.light))

    def strip(self, x: Span, y: Span, colour: Sequence[float] | Floats, z: float = 0.0) -> None:
        """A level rectangle."""
        self.polygon([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)], colour)

    def upright(self, x: Span, y: float, z: Span, colour: Sequence[float] | Floats) -> None:
        """A rectangle that stands along the vehicle's axis."""
        self.polygon([(x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])], colour)

    def pavement(self, y: float, colour: Colour) -> None:
        """Ground of another colour from y on, behind a kerb."""
        for near, wide, tone in ((0.0, 90.0, colour), (0.0, 0.22, _KERB), (-0.05, 0.05, (0.25, 0.25, 0.26))):
            self.strip((-80, 80), (y + near, y + near + wide), tone)


def _pick(colours: tuple[Colour, ...], rng: np.random.Generator) -> Floats:
    return np.array(colours[int(rng.integers(len(colours)))])


def _sky_and_ground(view: View, shot: Shot, canvas: int, ground: Floats) -> Image.Image:
    ahead = view.axes[2] * (1, 1, 0)
    horizon = view.project((view.eye + 1e4 * ahead / np.linalg.norm(ahead))[None])[0, 1]
    rows = np.arange(canvas)[:, None]
    zenith, low = (np.array(colour) for colour in _SKIES[shot.weather])
    sky = low + (zenith - low) * np.clip((horizon - rows) / (0.8 * canvas), 0, 1)
    floor = ground * (1.12 - 0.22 * np.clip((rows - horizon) / (1.6 * canvas), 0, 1))
    column = np.where(rows < horizon, sky, floor)[:, None, :]
    image = Image.fromarray((column.clip(0, 1) * 255).astype(np.uint8))
    return image.resize((canvas, canvas), Image.Resampling.NEAREST)


def _road(stage: _Stage, rng: np.random.Generator) -> None:
    lane, start = rng.uniform(1.9, 2.5), rng.uniform(0, 5)
    stage.pavement(lane + rng.uniform(1.5, 3.5), (0.50, 0.49, 0.47))
    _skyline(stage, rng)
    for x in start + 5.0 * np.arange(-8, 9):
        for y in (-lane, lane):
            stage.strip((x, x + 2.6), (y - 0.07, y + 0.07), _LINE)


def _lot(stage: _Stage, rng: np.random.Generator) -> None:
    stage.pavement(rng.uniform(6, 9), (0.46, 0.46, 0.44))
    _skyline(stage, rng)
    colour: Colour = _LINE if rng.random() < 0.7 else (0.82, 0.68, 0.25)
    for y in rng.uniform(-0.6, 0.6) + np.array([-4.8, -1.6, 1.6, 4.8]):
        stage.strip((-6.5, 6.5), (y - 0.06, y + 0.06), colour)
    stage.strip((-6.6, -6.4), (-30, 5.2), colour)


def _wall(stage: _Stage, rng: np.random.Generator) -> None:
    """A wall with windows, joints or gates."""
    colour, y, top = _pick(_WALLS, rng), rng.uniform(2.2, 4.5), rng.uniform(3.5, 9.0)
    stage.pavement(y - 0.8, (0.52, 0.51, 0.49))
    stage.upright((-60, 60), y, (0, top), colour)
    stage.upright((-60, 60), y, (0, rng.uniform(0.3, 0.9)), colour * 0.72)
    style = int(rng.integers(3))
    pieces: tuple[tuple[Span, Span, float], ...] = (
        (((0.0, 1.8), (1.4, 3.0), 0.5), ((0.0, 1.8), (1.3, 1.42), 1.12)),
        (((0.0, 0.12), (0.0, top), 0.85),),
        (((0.0, 3.0), (0.05, 2.7), 0.88), ((0.0, 3.0), (2.55, 2.7), 0.7)),
    )[style]
    for x in rng.uniform(0, 4) + 4.0 * np.arange(-7, 8):
        for (x0, x1), z, tone in pieces:
            stage.upright((x + x0, x + x1), y, z, colour * tone)
    for joint in np.arange(0.6, top, 0.8) if style == 1 else ():
        stage.upright((-60, 60), y, (joint, joint + 0.04), colour * 0.90)


def _green(stage: _Stage, rng: np.random.Generator) -> None:
    """Grass, trees, perhaps a hedge."""
    y = rng.uniform(2.2, 4.0)
    stage.pavement(y - 0.3, (0.36, 0.43, 0.26))
    _skyline(stage, rng)
    if rng.random() < 0.5:
        leaf, top = _pick(_LEAVES, rng), rng.uniform(0.9, 1.6)
        stage.upright((-50, 50), y + 1.2, (0, top), leaf * 0.85)
        stage.strip((-50, 50), (y + 1.2, y + 2.2), leaf * 1.25, z=top)
    for _ in range(int(rng.integers(2, 6))):
        _tree(stage, rng, rng.uniform(-16, 16), y + rng.uniform(2.5, 9))


def _tree(stage: _Stage, rng: np.random.Generator, x: float, y: float) -> None:
    leaf, size, angle = _pick(_LEAVES, rng), rng.uniform(1.2, 2.2), np.arange(9) * 2 * np.pi / 9
    stage.upright((x - 0.13, x + 0.13), y, (0, 2.4), (0.26, 0.20, 0.15))
    for dx, dz, share, tone in ((0, 0, 1, 0.8), (-0.35, 0.25, 0.7, 1.0), (0.3, 0.5, 0.6, 1.2)):
        radius = size * share * (1 + 0.12 * np.sin(angle * 4 + x))
        across, up = x + dx * size + radius * np.cos(angle), 2.2 + size * (0.7 + dz) + radius * np.sin(angle)
        stage.polygon([(a, y, b) for a, b in zip(across, up, strict=True)], leaf * tone)


def _skyline(stage: _Stage, rng: np.random.Generator) -> None:
    """Blocks of houses and trees far away."""
    y, x = rng.uniform(14, 26), -75.0
    while x < 75:
        wide, tones = rng.uniform(5, 14), _LEAVES if rng.random() < 0.4 else _WALLS
        stage.upright((x, x + wide), y, (0, rng.uniform(3, 9)), 0.75 * _pick(tones, rng) + 0.12)
        x += wide


def _grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Texture for ground and walls: three octaves of smooth noise."""
    total = Image.new("L", image.size, 128)
    for cells, depth in ((7, 9), (22, 10), (90, 9)):
        noise = Image.fromarray(rng.integers(128 - depth, 128 + depth, (cells, cells), dtype=np.uint8))
        total = ImageChops.add(total, noise.resize(image.size, Image.Resampling.BICUBIC), offset=-128)
    return ImageChops.soft_light(image, Image.merge("RGB", (total, total, total)))

"""What is drawn over the background and the vehicle: shadow, glow of lamps, occluding objects."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sfsc_vehicles.camera import Shot
from sfsc_vehicles.identity import Colour
from sfsc_vehicles.mesh import Floats, Mesh
from sfsc_vehicles.scene import ink
from sfsc_vehicles.view import View

__all__ = ["halos", "occlude", "shadow"]


def shadow(image: Image.Image, mesh: Mesh, view: View, shot: Shot) -> None:
    """Darken the ground by the shadow that the sun casts and by the contact shadow, both with soft edges."""
    small = image.width // 3
    cast, near = Image.new("L", (small, small)), Image.new("L", (small, small))
    draw = ImageDraw.Draw(cast)
    fallen = mesh.vertices - mesh.vertices[:, 2:] * (np.array(shot.sun) / shot.sun[2])
    for outline in _outlines(mesh, view.project(fallen) / 3):
        draw.polygon(outline, fill=int(60 + 140 * shot.strength))
    x, y = (np.ptp(mesh.vertices, axis=0)[:2] * (0.485, 0.43)).tolist()
    foot = view.project(np.array([(x, y, 0), (x, -y, 0), (-x, -y, 0), (-x, y, 0)])) / 3
    ImageDraw.Draw(near).polygon(foot.ravel().tolist(), fill=200)
    sharp = 0.006 if shot.strength > 0.4 else 0.03
    cast, near = (
        layer.filter(ImageFilter.GaussianBlur(small * soft)) for layer, soft in ((cast, sharp), (near, 0.012))
    )
    mask = ImageChops.lighter(cast, near).resize(image.size, Image.Resampling.BILINEAR)
    image.paste((22, 23, 28), mask=mask)


def halos(image: Image.Image, mesh: Mesh, view: View) -> Image.Image:
    """The image with a glow around the lamps that are on."""
    layer = Image.new("RGB", (image.width // 4, image.width // 4))
    draw, outlines = ImageDraw.Draw(layer), _outlines(mesh, view.project(mesh.vertices) / 4)
    for f in mesh.visible(view.eye).tolist():
        if mesh.glow[f] == 1.0:
            draw.polygon(outlines[f], fill=ink(mesh.colours[f]))
    glow = layer.filter(ImageFilter.GaussianBlur(layer.width * 0.03)).resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.screen(image, glow)


def _outlines(mesh: Mesh, points: Floats) -> list[list[float]]:
    flat, starts = points.ravel().tolist(), (2 * mesh.starts).tolist()
    return [flat[a:b] for a, b in pairwise(starts)]


def occlude(image: Image.Image, shot: Shot, light: float) -> None:
    """Draw the shot's occluding object near the left or right edge, where it hides a small part of the vehicle."""
    if shot.occluder == "none":
        return
    rng, n, draw = np.random.default_rng([shot.detail, 2]), image.width, ImageDraw.Draw(image)
    left = bool(rng.random() < 0.5)
    pieces = _neighbour(rng) if shot.occluder == "car" else _post(shot.occluder, rng)
    for outline, colour in pieces:
        points = [((x if left else 1 - x) * n, y * n) for x, y in outline]
        draw.polygon(points, fill=ink(np.array(colour) * light))


_Piece = tuple[list[tuple[float, float]], Colour]  # an outline at the left edge, in shares of the frame


def _slab(x: float, half: float, top: float, bottom: float, colour: Colour) -> _Piece:
    return [(x - half, top), (x + half, top), (x + half, bottom), (x - half, bottom)], colour


def _post(what: str, rng: np.random.Generator) -> list[_Piece]:
    """A lamp post, a bollard or a no-entry sign."""
    x, half, grey = rng.uniform(0.04, 0.22), rng.uniform(0.009, 0.014), rng.uniform(0.25, 0.6)
    if what == "bollard":
        top = rng.uniform(0.62, 0.75)
        stripe = _slab(x, 2 * half, top + 0.05, top + 0.1, (0.12, 0.12, 0.12))
        return [_slab(x, 2 * half, top, 1.1, (0.75, 0.70, 0.25)), stripe]
    post = _slab(x, half, 0.14 if what == "sign" else -0.1, 1.1, (grey, grey, grey))
    if what == "pole":
        return [post, _slab(x - 0.6 * half, 0.3 * half, -0.1, 1.1, (1.3 * grey,) * 3)]
    turn = np.arange(20) * np.pi / 10
    disc = [(x + 0.075 * float(np.cos(a)), 0.14 + 0.075 * float(np.sin(a))) for a in turn]
    return [post, (disc, (0.75, 0.10, 0.10)), _slab(x, 0.045, 0.125, 0.155, (0.9, 0.9, 0.9))]


def _neighbour(rng: np.random.Generator) -> list[_Piece]:
    """The end of another car in the lower corner: cabin, window, body, lamp."""
    red, green, blue = 0.5 * rng.uniform(0.12, 0.75, 3) + rng.uniform(0.05, 0.4)
    r, t = rng.uniform(0.14, 0.26), rng.uniform(0.78, 0.88)
    return [
        ([(-0.1, t - 0.11), (0.45 * r, t - 0.105), (0.72 * r, t), (-0.1, t)], (red, green, blue)),
        ([(-0.1, t - 0.095), (0.40 * r, t - 0.09), (0.60 * r, t), (-0.1, t)], (0.10, 0.13, 0.17)),
        ([(-0.1, t), (0.8 * r, t), (r, t + 0.04), (r, 1.1), (-0.1, 1.1)], (red, green, blue)),
        ([(0.7 * r, t + 0.03), (r, t + 0.045), (r, t + 0.1), (0.7 * r, t + 0.09)], (0.62, 0.06, 0.06)),
    ]

"""From an identity and a shot to an image: lighting, painting, and the order of all steps."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfsc_vehicles.camera import LENSES, Shot, take
from sfsc_vehicles.develop import develop
from sfsc_vehicles.foreground import halos, occlude, shadow
from sfsc_vehicles.identity import Identity
from sfsc_vehicles.mesh import Floats, Mesh
from sfsc_vehicles.scene import backdrop
from sfsc_vehicles.vehicle import vehicle
from sfsc_vehicles.view import View, aim

__all__ = ["SIZES", "photograph", "render", "render_jpeg", "silhouette"]

SIZES = (64, 2048)  # smallest and largest image, pixels
_AMBIENT = {"clear": 0.56, "overcast": 0.82, "rain": 0.66, "fog": 0.80, "dusk": 0.40}
_LAMPS_ON = ("dusk", "rain", "fog")
_KNEE = 0.7  # brightness above this is compressed, so that edges of white paint stay visible


def render(seed: int, identity: Identity, camera: int, shot: int, size: int = 96) -> NDArray[np.uint8]:
    """Image of an identity, uint8 [size, size, 3]; the same arguments give the same bytes in any process.

    Raises:
        ValueError: there is no such camera, a number is negative, or the size is outside SIZES.
    """
    return photograph(identity, take(seed, identity.index, camera, shot), size)


def render_jpeg(seed: int, identity: Identity, camera: int, shot: int, size: int = 96) -> bytes:
    """The image of `render` as a JPEG file with the camera's quality."""
    file = io.BytesIO()
    pixels = render(seed, identity, camera, shot, size)
    Image.fromarray(pixels).save(file, "JPEG", quality=LENSES[camera].quality, optimize=True)
    return file.getvalue()


def photograph(identity: Identity, shot: Shot, size: int) -> NDArray[np.uint8]:
    """The identity under the conditions of a shot: uint8 [size, size, 3]."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size must lie in {SIZES[0]}..{SIZES[1]} pixels; found {size}")
    finer = 3 if size <= 256 else 2
    mesh = vehicle(identity)
    view = aim(shot, mesh.vertices, size * finer)
    light = (_AMBIENT[shot.weather] + 0.6 * shot.strength) * shot.exposure
    image = backdrop(view, shot, size * finer, light)
    shadow(image, mesh, view, shot)
    _paint(image, mesh, view, _lit(mesh, view, shot))
    if shot.weather in _LAMPS_ON:
        image = halos(image, mesh, view)
    occlude(image, shot, light)
    return develop(image.reduce(finer), shot)


def silhouette(identity: Identity, shot: Shot, size: int) -> NDArray[np.bool_]:
    """Whether the vehicle covers a pixel: bool [size, size]."""
    mesh, image = vehicle(identity), Image.new("RGB", (size, size))
    _paint(image, mesh, aim(shot, mesh.vertices, size), np.ones_like(mesh.colours))
    return np.asarray(image)[..., 0] > 0


def _paint(image: Image.Image, mesh: Mesh, view: View, colours: Floats) -> None:
    draw = ImageDraw.Draw(image)
    flat = view.project(mesh.vertices).ravel().tolist()
    inks = (colours.clip(0, 1) * 255 + 0.5).astype(int).tolist()
    starts = (2 * mesh.starts).tolist()
    for f in mesh.visible(view.eye).tolist():
        draw.polygon(flat[starts[f] : starts[f + 1]], fill=tuple(inks[f]))


def _lit(mesh: Mesh, view: View, shot: Shot) -> Floats:
    """Colour of every face [f, 3]: ambient light, sun, lamps, and the reflections of glossy faces."""
    ambient, sun = _AMBIENT[shot.weather], np.array(shot.sun)
    to_eye = view.eye - mesh.centres
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    facing = np.einsum("fc,fc->f", mesh.normals, to_eye)
    mirrored = 2 * facing[:, None] * mesh.normals - to_eye
    diffuse = ambient * (0.80 + 0.26 * mesh.normals[:, 2]) + shot.strength * np.clip(mesh.normals @ sun, 0, 1)
    fresnel = 0.07 + 0.75 * (1 - np.clip(facing, 0, 1)) ** 4
    sky = ambient * (0.25 + 1.1 / (1 + np.exp(-9 * (mirrored[:, 2] - 0.12))))
    gleam = mesh.gloss * (fresnel * sky + 0.72 * shot.strength * np.clip(mirrored @ sun, 0, 1) ** 24)
    lamps = mesh.glow * (0.8 if shot.weather in _LAMPS_ON else 0.12)
    lit = shot.exposure * (mesh.colours * (diffuse + lamps)[:, None] + gleam[:, None] * (0.94, 0.98, 1.04))
    over = np.maximum(lit - _KNEE, 0.0) / (1 - _KNEE)
    return np.asarray(np.minimum(lit, _KNEE) + (1 - _KNEE) * np.tanh(over))

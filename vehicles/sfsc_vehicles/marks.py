"""Stripes, stickers and damage on the bodywork."""

from __future__ import annotations

import numpy as np

from sfsc_vehicles.body import Body
from sfsc_vehicles.identity import PAINTS, Colour, Identity, Sticker
from sfsc_vehicles.kinds import Frame
from sfsc_vehicles.mesh import Face, Floats

__all__ = ["damage", "racing", "stickers", "stripes"]

_TURN = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
_DISC = np.stack([np.sin(_TURN), np.cos(_TURN)], axis=1)
_SQUARE = np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)])
_POINTS = np.arange(10) * np.pi / 5
_STAR = np.stack([np.sin(_POINTS), np.cos(_POINTS)], axis=1) * np.where(np.arange(10) % 2, 0.45, 1.1)[:, None]
# Polygons around the unit circle; the second polygon of a ring has the colour of the paint.
_OUTLINES: dict[str, list[Floats]] = {
    "disc": [_DISC],
    "ring": [_DISC, _DISC * 0.58],
    "star": [_STAR],
    "square": [_SQUARE],
    "diamond": [_DISC[::6] * 1.1],
    "triangle": [_DISC[::8] * 1.1],
    "cross": [_SQUARE * (1.1, 0.40), _SQUARE * (0.40, 1.1)],
    "bars": [_SQUARE * (1.1, 0.25) + (0, y) for y in (-0.66, 0.0, 0.66)],
}
_BANDS: dict[str, list[tuple[float, float]]] = {  # shares of the height from sill to belt
    "side": [(0.50, 0.72)],
    "double": [(0.42, 0.52), (0.64, 0.74)],
    "wedge": [(0.12, 0.80)],
    "chequer": [(0.46, 0.76)],
}


def stickers(frame: Frame, identity: Identity) -> list[Face]:
    """Every sticker on both flanks."""
    return [face for mark in identity.stickers for face in _sticker(frame, identity, mark)]


def _sticker(frame: Frame, identity: Identity, mark: Sticker) -> list[Face]:
    u0, u1, low, high = frame.kind.panel
    radius = 0.5 * mark.size * min(0.95 * (high - low) * frame.height, (u1 - u0) * frame.length / 3.2)
    centre = (frame.x(u0 + (u1 - u0) * mark.place), (low + high) / 2 * frame.height)
    inks = [PAINTS[mark.ink], identity.panel if mark.shape == "ring" else PAINTS[mark.ink], PAINTS[mark.ink]]
    pieces = zip(_OUTLINES[mark.shape], inks, strict=False)
    return [frame.flank.lay(piece * radius + centre, side, c, 0.15) for piece, c in pieces for side in (1, -1)]


def stripes(body: Body, identity: Identity) -> list[Face]:
    """Stripes along both flanks of one body."""
    spans = _BANDS.get(identity.stripe, [])
    ink = PAINTS[identity.stripe_ink]
    return [body.lay(c, side, ink, 0.2) for span in spans for c in _band(body, identity, span) for side in (1, -1)]


def _band(body: Body, identity: Identity, span: tuple[float, float]) -> list[list[tuple[float, float]]]:
    """Corners (x, z) of the pieces of one stripe, short enough to follow the bodywork."""
    sill, belt = float(body.z[0, 0]), float(body.z[min(2, len(body.z) - 1), 3])
    low, high = (sill + share * (belt - sill) for share in span)
    chequer = identity.stripe == "chequer"
    count = 18 if chequer else 10
    x = np.linspace(body.x[0], body.x[-1], count + 1)
    foot = np.linspace(low, 0.25 * low + 0.75 * high if identity.stripe == "wedge" else low, count + 1)
    return [
        [(x[i], foot[i]), (x[i], high), (x[i + 1], high), (x[i + 1], foot[i + 1])]
        for i in range(0, count, 2 if chequer else 1)
    ]


def racing(frame: Frame, identity: Identity) -> dict[int, list[Face]]:
    """Two stripes along bonnet, roof and boot, but not on glass: the faces of each slice of the body."""
    if identity.stripe != "racing":
        return {}
    slices = [i for i in range(len(frame.u) - 1) if i not in frame.kind.glass]
    return {i: [_strip(frame.body, i, side, PAINTS[identity.stripe_ink]) for side in (1, -1)] for i in slices}


def _strip(body: Body, i: int, side: int, ink: Colour) -> Face:
    edges = ((i, 0.10), (i, 0.34), (i + 1, 0.34), (i + 1, 0.10))
    points = [(body.x[k], side * share * body.y[k, 5], body.z[k, 5]) for k, share in edges]
    return Face(np.array(points), (0, 0, 1), ink, 0.2)


def damage(frame: Frame, identity: Identity) -> list[Face]:
    """The dent, the scratch or the panel of another colour on one flank."""
    u0, u1, low, high = frame.kind.panel
    room, span = (high - low) * frame.height, (u1 - u0) * frame.length
    centre = (frame.x(u0 + (u1 - u0) * identity.damage_place), (low + 0.4 * (high - low)) * frame.height)
    return [
        frame.flank.lay(points * (span, room) + centre, identity.damage_side, colour, 0.05)
        for points, colour in _traces(identity)
    ]


def _traces(identity: Identity) -> list[tuple[Floats, Colour]]:
    """Polygons and colours of the damage, in shares of the panel's length and height."""
    red, green, blue = identity.panel
    if identity.damage == "dent":
        jag = 1 + 0.10 * np.sin(_TURN * 3 + identity.damage_place * 40)[:, None]
        rim: Colour = (0.3 + 0.6 * red, 0.3 + 0.6 * green, 0.3 + 0.6 * blue)
        hollow = _DISC * jag * (0.085, 0.22)
        return [(hollow * 1.12 + (0, -0.02), rim), (hollow, (0.5 * red, 0.5 * green, 0.5 * blue))]
    if identity.damage == "scratch":
        x, upper = np.linspace(-0.17, 0.17, 7), np.array([0.2, 1.2, 0.5, 1.6, 0.9, 1.3, 0.1]) * 0.09
        line = np.concatenate([np.stack([x, upper], axis=1), np.stack([x, upper - 0.1], axis=1)[::-1]])
        return [(line, (0.30, 0.25, 0.22) if red + green + blue > 1.2 else (0.75, 0.73, 0.70))]
    if identity.damage == "panel":
        grey = abs(red - 0.5) > 0.15
        return [(_SQUARE * (0.13, 0.52), (0.50, 0.50, 0.52) if grey else (0.75, 0.30, 0.20))]
    return []

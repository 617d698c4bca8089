"""Parts of the bodywork: windows, doors, lamps, bumpers, number plates, mirrors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sfsc_vehicles.body import Body
from sfsc_vehicles.identity import Colour, Identity
from sfsc_vehicles.kinds import Frame
from sfsc_vehicles.mesh import Face, Floats, Node, box

__all__ = ["TRIM", "doors", "ends", "mirror", "screens", "underbody", "windows"]

TRIM: Colour = (0.10, 0.10, 0.105)
_LAMP: Colour = (0.86, 0.90, 0.92)
_TAIL: Colour = (0.66, 0.04, 0.05)
_AMBER: Colour = (0.86, 0.55, 0.20)
# From bottom to top: the upper part of a window reflects the sky.
_GLASS = [(0.045 + 0.16 * t, 0.065 + 0.20 * t, 0.10 + 0.25 * t) for t in (0.0, 0.04, 0.16, 0.36, 0.64, 1.0)]


def underbody(frame: Frame) -> Node:
    """A dark block between the wheels, so that one cannot look through under the vehicle."""
    reach, half, sill = frame.length * 0.46, frame.width * 0.40, frame.kind.sill
    top = frame.height * 0.30 if frame.cargo else sill + 0.02
    return box((-reach, -half, 0.7 * sill), (reach, half, top), (0.045, 0.045, 0.05))


def screens(frame: Frame) -> dict[int, list[Face]]:
    """Windscreen and rear window: the faces of each slice of the body."""
    body, result = frame.body, {}
    for i in frame.kind.glass:
        x, half, z = body.x[i : i + 2], 0.94 * body.y[i : i + 2, 5], body.z[i : i + 2, 5]
        low, high = (0, 1) if z[0] < z[1] else (1, 0)
        base, peak = (np.array([(x[k], s * half[k], z[k]) for s in (1, -1)]) for k in (low, high))
        ahead = 1.0 if low == 0 else -1.0
        result[i] = _pane(0.95 * base + 0.05 * peak, 0.05 * base + 0.95 * peak, (ahead, 0, 0.4))
    return result


def windows(frame: Frame) -> list[Face]:
    """The side windows of both flanks, below the roof line."""
    body, faces = frame.body, []
    for start, stop in frame.kind.windows:
        x = frame.length * (0.5 - np.unique(np.clip([*frame.u, *np.linspace(start, stop, 9)], start, stop)))
        z = body.section(x)[1]
        low = z[:, 3] + 0.03
        high = np.maximum(z[:, 4] - 0.03 * frame.width, low)
        for side in (1, -1):
            lower, upper = (body.side(np.stack([x, edge], axis=1), side) for edge in (low, high))
            faces += _pane(lower, upper, (0, side, 0.2))
    return faces


def _pane(lower: Floats, upper: Floats, outward: ArrayLike) -> list[Face]:
    """Glass between two lines of points, [k, 3] each."""
    faces = []
    for band, colour in enumerate(_GLASS):
        low, high = (lower + (upper - lower) * (t / len(_GLASS)) for t in (band, band + 1))
        faces.append(Face(np.concatenate([low, high[::-1]]), outward, colour, gloss=0.8))
    return faces


def doors(frame: Frame, identity: Identity) -> list[Face]:
    """Seams and handles of the side doors."""
    if identity.kind == "bus":
        return []
    red, green, blue = (0.4 * c for c in identity.shade)
    outlines, sill = [], frame.kind.sill + 0.12
    for start, stop in frame.kind.windows[:2]:
        for x in (frame.x(start) - 0.2, frame.x(stop)):
            belt = frame.body.belt(x)
            outlines.append([(x, sill), (x, belt), (x - 0.018, belt), (x - 0.018, sill)])
        low, high = belt - 0.13, belt - 0.09
        outlines.append([(x + 0.06, low), (x + 0.06, high), (x + 0.24, high), (x + 0.24, low)])
    return [frame.body.lay(outline, side, (red, green, blue)) for outline in outlines for side in (1, -1)]


def ends(frame: Frame, identity: Identity) -> list[Face]:
    """Grille, bumpers, lamps, blank number plates and rear doors."""
    kind, front, rear = identity.kind, frame.body, frame.cargo or frame.body
    heavy, lorry = kind in ("lorry", "bus"), kind == "lorry"
    tail = (0.03, 0.10) if lorry else (0.30, 0.55) if heavy else (0.55, 0.92)
    faces = [_plate(front, 0, (-0.50, 0.50), (0.62, 0.86), TRIM)]
    if identity.dark_trim:
        faces.append(_plate(front, 0, (-1.0, 1.0), (0.0, 0.34), TRIM))
        faces.append(_plate(rear, -1, (-1.0, 1.0), (0.0, 0.13 if lorry else 0.34), TRIM))
    reach = 0.035 * frame.length
    for side in (1, -1):
        faces += _lamp(front, 0, (side * 0.56, side * 0.97), (0.34, 0.56) if heavy else (0.60, 0.90), _LAMP, reach)
        faces += _lamp(rear, -1, (side * 0.72, side * 0.97), tail, _TAIL, reach)
    faces.append(_plate(front, 0, (-0.27, 0.27), (0.20, 0.38), (0.86, 0.86, 0.82)))
    faces.append(_plate(rear, -1, (-0.27, 0.27), (0.01, 0.07) if lorry else (0.28, 0.46), (0.88, 0.82, 0.50)))
    if kind in ("lorry", "van"):
        faces.append(_plate(rear, -1, (-0.012, 0.012), (0.12, 0.97) if lorry else (0.34, 1.9), TRIM))
    if kind == "van":
        faces += [_plate(rear, -1, (s * 0.10, s * 0.80), (1.15, 1.80), _GLASS[3], gloss=0.8) for s in (1, -1)]
    return faces


def _lamp(
    body: Body, end: int, across: tuple[float, float], heights: tuple[float, float], colour: Colour, reach: float
) -> list[Face]:
    """A lamp in a dark housing, with an indicator below; it continues around the corner on the flank."""
    side, (low, high) = 1 if across[0] > 0 else -1, heights
    rim, x, sill, belt = 0.06 * (high - low), body.x[end], body.z[end, 0], body.z[end, 3]
    back = x - reach if end == 0 else x + reach
    z0, z1 = (sill + share * (belt - sill) for share in heights)
    return [
        _plate(body, end, (across[0] - side * 0.03, side), (low - rim, high + rim), TRIM),
        _plate(body, end, across, heights, colour, glow=1.0),
        _plate(body, end, across, (low, 0.7 * low + 0.3 * high), _AMBER, glow=0.3),
        body.lay([(x, z0), (x, z1), (back, z1), (back, (z0 + z1) / 2)], side, colour, glow=1.0),
    ]


def _plate(
    body: Body,
    end: int,
    across: tuple[float, float],
    heights: tuple[float, float],
    colour: Colour,
    gloss: float = 0.1,
    glow: float = 0.0,
) -> Face:
    """A rectangle on the front (end 0) or rear (-1): shares of the half width, of the height from sill to belt."""
    sill, belt = body.z[end, 0], body.z[end, 3]
    levels = [sill + share * (belt - sill) for share in heights]
    wide = np.interp(levels, body.z[end], body.y[end])
    y = np.concatenate([wide[0] * np.array(across), wide[1] * np.array(across[::-1])])
    points = np.column_stack([np.full(4, body.x[end]), y, np.repeat(levels, 2)])
    return Face(points, (1 if end == 0 else -1, 0, 0), colour, gloss, glow)


def mirror(frame: Frame, side: int, colour: Colour) -> Node:
    """A wing mirror at the foot of the windscreen."""
    x, half = frame.x(frame.kind.windows[0][0] + 0.03), frame.width / 2
    z, tall = frame.body.belt(x) + 0.04, 0.5 if frame.height > 2.7 else 0.16
    low, high = sorted((side * half, side * (half + 0.2)))
    return box((x - 0.06, low, z), (x + 0.08, high, z + tall), colour, 0.3)

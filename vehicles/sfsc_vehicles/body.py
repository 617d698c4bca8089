"""The bodywork: half cross-sections along the vehicle's axis; parts and marks are laid on its flanks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sfsc_vehicles.identity import Colour
from sfsc_vehicles.mesh import Face, Floats, Node, chain

__all__ = ["BELT", "GREENHOUSE", "TOP", "Body", "Skin", "cells", "loft"]

BELT, GREENHOUSE, TOP = 2, 3, 5  # strips of a half-section, counted from the sill upwards
Skin = Callable[[int, int], tuple[Colour, float]]  # (slice, strip) -> colour and gloss


@dataclass(frozen=True, eq=False)
class Body:
    """n half-sections of six points, front to rear: x falls, z rises along a section. Metres."""

    x: Floats  # [n]
    y: Floats  # [n, 6]
    z: Floats  # [n, 6]

    def section(self, x: Floats) -> tuple[Floats, Floats]:
        """The half-sections at positions x [k]: y and z, each [k, 6]."""
        i = np.clip(np.searchsorted(-self.x, -x, side="right") - 1, 0, len(self.x) - 2)
        t = ((x - self.x[i]) / (self.x[i + 1] - self.x[i]))[:, None]
        return self.y[i] * (1 - t) + self.y[i + 1] * t, self.z[i] * (1 - t) + self.z[i + 1] * t

    def belt(self, x: float) -> float:
        """Height of the belt line at x."""
        return float(self.section(np.array([x]))[1][0, 3])

    def lay(self, points: ArrayLike, side: int, colour: Colour, gloss: float = 0.1, glow: float = 0.0) -> Face:
        """A polygon of points (x, z) laid on the left (+1) or right (-1) flank."""
        return Face(self.side(np.asarray(points, dtype=np.float64), side), (0, side, 0), colour, gloss, glow)

    def side(self, points: Floats, side: int) -> Floats:
        """Points (x, z) [k, 2] on the left (+1) or right (-1) flank: [k, 3]."""
        ys, zs = self.section(points[:, 0])
        y = [np.interp(z, row_z, row_y) for z, row_z, row_y in zip(points[:, 1], zs, ys, strict=True)]
        return np.stack([points[:, 0], side * np.array(y), points[:, 1]], axis=1)


def loft(x: Floats, half: Floats, sill: float, deck: Floats, roof: Floats, lean: float) -> Body:
    """Sections from sill over belt line (`deck`) to `roof`; the greenhouse leans in by `lean` metres per metre."""
    edge = np.maximum(roof - 0.035 * half, deck)
    belt = 0.965 * half
    shoulder = belt - lean * (edge - deck)
    y = np.column_stack([0.94 * half, 0.99 * half, half, belt, shoulder, shoulder - 0.09 * half])
    levels = [sill + share * (deck - sill) for share in (0.0, 0.28, 0.66, 1.0)]
    return Body(x, y, np.column_stack([*levels, edge, np.maximum(roof, edge) + 0.03 * half]))


def cells(body: Body, skin: Skin, on_top: Mapping[int, Sequence[Face]], bed: float | None = None) -> Node:
    """The shell, slice by slice, with front and rear; `bed`: height of an open load bed instead of a top."""
    x = np.broadcast_to(body.x[:, None], body.y.shape)
    ring = np.stack([np.stack([x, side * body.y, body.z], axis=2) for side in (1, -1)])
    last = len(body.x) - 2
    slices: list[Node] = []
    for i in range(last + 1):
        pair = ring[:, i : i + 2]
        inside = _bed(pair, bed, skin(i, BELT)[0]) if bed is not None else _top(pair, *skin(i, TOP))
        slices.append([*inside, *_flanks(pair, skin, i), *on_top.get(i, ())])
    caps = [
        Face(np.concatenate([ring[0, end], ring[1, end, ::-1]]), (ahead, 0, 0), *skin(i, BELT))
        for end, i, ahead in ((0, 0, 1), (-1, last, -1))
    ]
    return [chain(0, slices, body.x[1:-1].tolist()), *caps]


def _flanks(pair: Floats, skin: Skin, i: int) -> list[Face]:
    """Both flanks between two neighbouring sections; `pair` is [side, section, point, xyz]."""
    middle = pair.mean(axis=(0, 1, 2))
    faces = []
    for strip in range(TOP):
        for flank in pair:
            points = np.concatenate([flank[0, strip : strip + 2], flank[1, strip : strip + 2][::-1]])
            faces.append(Face(points, points.mean(axis=0) - middle, *skin(i, strip)))
    return faces


def _top(pair: Floats, colour: Colour, gloss: float) -> list[Face]:
    left, right = pair[:, :, -1]
    return [Face(np.concatenate([left, right[::-1]]), (0, 0, 1), colour, gloss)]


def _bed(pair: Floats, floor: float, colour: Colour) -> list[Face]:
    """Floor and inner walls of an open load bed, to be drawn before the flanks."""
    rim = np.concatenate([pair[0, :, 3], pair[1, ::-1, 3]]) * (1.0, 0.93, 1.0)
    ground = rim * (1.0, 1.0, 0.0) + (0.0, 0.0, floor)
    red, green, blue = (0.55 * c for c in colour)
    faces = [Face(ground, (0, 0, 1), (0.10, 0.10, 0.11))]
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
        points = np.stack([rim[a], rim[b], ground[b], ground[a]])
        faces.append(Face(points, rim.mean(axis=0) - points.mean(axis=0), (red, green, blue)))
    return faces

"""Wheels: treads below the bodywork, arches and rims on its flanks."""

from __future__ import annotations

import numpy as np

from sfsc_vehicles.identity import Colour, Identity
from sfsc_vehicles.kinds import Frame
from sfsc_vehicles.mesh import Face, Floats, Node, chain

__all__ = ["tyres", "wheels"]

_RUBBER: Colour = (0.06, 0.06, 0.065)
_HOLLOW: Colour = (0.10, 0.10, 0.11)
_TURN = np.arange(28) * np.pi / 14
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_SPOKES = {"five spoke": (5, 0.13), "many spoke": (12, 0.045), "star": (3, 0.26)}  # number, half width


def tyres(frame: Frame) -> Node:
    """The treads of all wheels, to be drawn before the bodywork, which hides their upper part."""
    rows: list[Node] = []
    for side in (1, -1):
        outer = side * (frame.width / 2 - 0.02)
        rows.append([_tread(frame, frame.x(u), outer, outer - side * 0.24) for u in frame.kind.axles])
    return chain(1, rows, [0.0])


def _tread(frame: Frame, x: float, outer: float, inner: float) -> Node:
    ring = _CIRCLE[::2] * frame.wheel + (x, frame.wheel)
    faces: list[Node] = [Face(_upright(ring, inner), (0, inner - outer, 0), _RUBBER)]
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        points = np.concatenate([_upright(np.stack([a, b]), outer), _upright(np.stack([b, a]), inner)])
        faces.append(Face(points, (a[0] + b[0] - 2 * x, 0, a[1] + b[1] - 2 * frame.wheel), _RUBBER))
    return faces


def wheels(frame: Frame, identity: Identity) -> list[Face]:
    """Arches and outer faces of all wheels."""
    faces = []
    for side in (1, -1):
        for u in frame.kind.axles:
            hub = np.array([frame.x(u), side * (frame.width / 2 - 0.015), frame.wheel])
            faces += [*_arch(frame, identity, hub, side), *_rim(identity, frame.wheel, hub, side)]
    return faces


def _arch(frame: Frame, identity: Identity, hub: Floats, side: int) -> list[Face]:
    flared = identity.kind in ("suv", "pickup") and identity.dark_trim
    faces = []
    for factor, grey in ((1.32, 0.11), (1.14, 0.03)) if flared else ((1.14, 0.03),):
        arc = _upright(_CIRCLE * frame.wheel * factor, 0.0) + hub
        arc[:, 2] = np.maximum(arc[:, 2], frame.kind.sill)
        faces.append(Face(arc, (0, side, 0), (grey, grey, grey)))
    return faces


def _rim(identity: Identity, radius: float, hub: Floats, side: int) -> list[Face]:
    metal: Colour = (0.22, 0.22, 0.235) if identity.dark_wheels else (0.74, 0.75, 0.77)

    def shape(points: Floats, colour: Colour) -> Face:
        return Face(_upright(points * radius, 0.0) + hub, (0, side, 0), colour, 0.3 if colour == metal else 0.0)

    faces = [shape(_CIRCLE, _RUBBER), shape(_CIRCLE * 0.70, metal)]
    if identity.wheel in _SPOKES:
        faces.append(shape(_CIRCLE * 0.61, _HOLLOW))
        faces += [shape(spoke, metal) for spoke in _spokes(*_SPOKES[identity.wheel])]
    elif identity.wheel == "steel":
        faces += [shape(_CIRCLE * 0.63, (0.16, 0.16, 0.17)), shape(_CIRCLE * 0.30, metal)]
    else:
        faces += [shape(_CIRCLE[::4] * 0.08 + 0.5 * _CIRCLE[k], _HOLLOW) for k in range(0, 28, 4)]
    return [*faces, shape(_CIRCLE * 0.17, metal), shape(_CIRCLE * 0.09, _HOLLOW)]


def _spokes(count: int, width: float) -> list[Floats]:
    spoke = np.array([(-width, 0.08), (-0.8 * width, 0.66), (0.8 * width, 0.66), (width, 0.08)])
    turns = np.arange(count) * 2 * np.pi / count
    return [spoke @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in turns]


def _upright(points: Floats, y: float) -> Floats:
    return np.stack([points[:, 0], np.full(len(points), y), points[:, 1]], axis=1)

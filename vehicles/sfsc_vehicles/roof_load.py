"""The load on the roof: bars with nothing, a box or a ladder on them, or a lit sign."""

from __future__ import annotations

import numpy as np

from sfsc_vehicles.identity import PAINTS, Colour, Identity
from sfsc_vehicles.kinds import Frame
from sfsc_vehicles.mesh import Node, Split, box, chain

__all__ = ["load"]

_METAL: Colour = (0.55, 0.56, 0.58)


def load(frame: Frame, identity: Identity) -> Split:
    """The plane of the roof with the load above it; the part below is empty, for the vehicle."""
    body = frame.body
    flat = np.flatnonzero(body.z[:, 5] > 0.955 * body.z[:, 5].max())
    front, rear = np.array([[0.92, 0.08], [0.08, 0.92]]) @ body.x[flat[[0, -1]]]
    half, z = 0.94 * float(body.y[flat, 5].min()), float(body.z[:, 5].max())
    return Split(2, z, [], _load(identity, float(front), max(float(rear), float(front) - 4.0), half, z))


def _load(identity: Identity, front: float, rear: float, half: float, z: float) -> Node:
    ink, long = PAINTS[identity.load_ink], front - rear
    middle, top = (front + rear) / 2, z + 0.1
    if identity.load == "none":
        return []
    if identity.load == "sign":
        wide, high = 0.55 * half, z + 0.06 + 0.16 * half
        return box((middle - 0.13, -wide, z), (middle + 0.13, wide, high), ink, 0.2, 0.5)
    at = (front - 0.2 * long, rear + 0.2 * long)
    bars = [box((x - 0.04, -half, z), (x + 0.04, half, top), _METAL) for x in at]
    carried = box((rear + 0.1 * long, -0.1 * half, top), (front - 0.1 * long, 0.85 * half, z + 0.42), ink, 0.4)
    if identity.load == "rack":
        rails = [box((rear, s * half - 0.04, top), (front, s * half + 0.04, z + 0.18), _METAL) for s in (1, -1)]
        carried = chain(1, rails, [0.0])
    elif identity.load == "ladder":
        carried = _ladder(front + 0.25, rear - 0.35, 0.5 * half, top, ink)
    return Split(2, top, chain(0, bars, [middle]), carried)


def _ladder(front: float, rear: float, half: float, z: float, ink: Colour) -> Node:
    rails = [box((rear, s * half - 0.05, z), (front, s * half + 0.05, z + 0.1), ink) for s in (1, -1)]
    steps = np.linspace(front - 0.15, rear + 0.15, 8)
    rungs = [box((x - 0.04, -half, z + 0.02), (x + 0.04, half, z + 0.08), ink) for x in steps]
    between = chain(0, rungs, ((steps[1:] + steps[:-1]) / 2).tolist())
    return chain(1, [rails[0], between, rails[1]], [half - 0.05, 0.05 - half])

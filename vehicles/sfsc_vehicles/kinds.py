"""The eight kinds of vehicle: outlines, windows, axles and panels, in metres or as shares of length and height."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sfsc_vehicles.body import Body, loft
from sfsc_vehicles.identity import Identity

__all__ = ["KIND", "Frame", "Kind", "frame"]


@dataclass(frozen=True)
class Kind:
    """u is the position along the vehicle, front 0, rear 1; heights are shares of the full height.

    `outline`: (u, belt line, roof). `glass`: slices of the outline whose top is glass. `windows`: spans of u.
    `panel`: u0, u1, low and high of the place for stickers. `cargo`: u0, u1, bottom, top of a second body.
    """

    size: tuple[float, float, float]
    sill: float
    wheel: float
    axles: tuple[float, ...]
    outline: tuple[tuple[float, float, float], ...]
    cowl: int
    glass: tuple[int, ...]
    windows: tuple[tuple[float, float], ...]
    panel: tuple[float, float, float, float]
    lean: float = 0.30
    cargo: tuple[float, float, float, float] | None = None
    taper: float = 0.86


def _spans(start: float, stop: float, count: int, gap: float) -> tuple[tuple[float, float], ...]:
    edges = np.linspace(start, stop, count + 1)
    return tuple((float(a), float(b) - gap) for a, b in pairwise(edges))


# fmt: off
KIND: dict[str, Kind] = {
    "hatchback": Kind(
        (3.9, 1.74, 1.50), 0.20, 0.31, (0.175, 0.82),
        ((0, 0.44, 0.44), (0.03, 0.50, 0.50), (0.23, 0.62, 0.62), (0.42, 0.64, 0.96), (0.55, 0.65, 1.0),
         (0.82, 0.67, 0.97), (0.97, 0.68, 0.72), (1.0, 0.60, 0.60)),
        2, (2, 5), ((0.24, 0.55), (0.57, 0.86)), (0.29, 0.70, 0.20, 0.62),
    ),
    "saloon": Kind(
        (4.7, 1.82, 1.43), 0.19, 0.32, (0.18, 0.80),
        ((0, 0.46, 0.46), (0.025, 0.52, 0.52), (0.27, 0.63, 0.63), (0.42, 0.65, 0.96), (0.52, 0.66, 1.0),
         (0.68, 0.67, 0.97), (0.83, 0.69, 0.70), (0.975, 0.68, 0.68), (1.0, 0.60, 0.60)),
        2, (2, 5), ((0.28, 0.545), (0.56, 0.79)), (0.28, 0.70, 0.19, 0.64),
    ),
    "estate": Kind(
        (4.75, 1.82, 1.47), 0.19, 0.32, (0.18, 0.79),
        ((0, 0.46, 0.46), (0.025, 0.52, 0.52), (0.26, 0.63, 0.63), (0.41, 0.65, 0.96), (0.52, 0.66, 1.0),
         (0.90, 0.67, 0.97), (0.98, 0.68, 0.72), (1.0, 0.58, 0.58)),
        2, (2, 5), ((0.27, 0.525), (0.54, 0.735), (0.75, 0.935)), (0.28, 0.69, 0.19, 0.64),
    ),
    "suv": Kind(
        (4.55, 1.92, 1.76), 0.30, 0.37, (0.175, 0.81),
        ((0, 0.48, 0.48), (0.02, 0.57, 0.57), (0.25, 0.63, 0.63), (0.36, 0.64, 0.96), (0.48, 0.65, 1.0),
         (0.89, 0.66, 0.98), (0.975, 0.67, 0.70), (1.0, 0.62, 0.62)),
        2, (2, 5), ((0.26, 0.52), (0.535, 0.74), (0.76, 0.93)), (0.29, 0.69, 0.24, 0.62), lean=0.22,
    ),
    "pickup": Kind(
        (5.3, 1.90, 1.78), 0.32, 0.37, (0.17, 0.79),
        ((0, 0.48, 0.48), (0.02, 0.56, 0.56), (0.25, 0.61, 0.61), (0.36, 0.62, 0.96), (0.43, 0.62, 1.0),
         (0.57, 0.62, 0.98), (0.60, 0.62, 0.64)),
        2, (2, 5), ((0.26, 0.445), (0.455, 0.575)), (0.27, 0.60, 0.24, 0.60), lean=0.22,
        cargo=(0.605, 1.0, 0.0, 0.60),
    ),
    "van": Kind(
        (5.3, 2.00, 2.25), 0.26, 0.34, (0.165, 0.80),
        ((0, 0.32, 0.32), (0.02, 0.38, 0.38), (0.13, 0.46, 0.46), (0.26, 0.48, 0.94), (0.33, 0.48, 1.0),
         (0.97, 0.50, 1.0), (1.0, 0.49, 0.95)),
        2, (2,), ((0.14, 0.345),), (0.37, 0.97, 0.32, 0.90), lean=0.09, taper=0.90,
    ),
    "lorry": Kind(
        (7.2, 2.35, 3.00), 0.45, 0.45, (0.14, 0.74, 0.86),
        ((0, 0.42, 0.42), (0.008, 0.44, 0.44), (0.015, 0.45, 0.45), (0.055, 0.46, 0.80), (0.10, 0.46, 0.84),
         (0.235, 0.46, 0.84), (0.245, 0.46, 0.80)),
        2, (2,), ((0.03, 0.175),), (0.29, 0.98, 0.36, 0.94), lean=0.06,
        cargo=(0.275, 1.0, 0.30, 1.0), taper=0.95,
    ),
    "bus": Kind(
        (10.2, 2.50, 3.00), 0.32, 0.47, (0.20, 0.73),
        ((0, 0.38, 0.38), (0.006, 0.40, 0.40), (0.012, 0.41, 0.41), (0.035, 0.43, 0.93), (0.06, 0.43, 1.0),
         (0.975, 0.43, 1.0), (0.99, 0.43, 0.92), (1.0, 0.40, 0.40)),
        2, (2, 6), _spans(0.03, 0.97, 8, 0.012), (0.27, 0.67, 0.13, 0.43), lean=0.05, taper=0.95,
    ),
}
# fmt: on


@dataclass(frozen=True, eq=False)
class Frame:
    """The kind of one identity in metres, as parts and marks need it."""

    kind: Kind
    length: float
    width: float
    height: float
    wheel: float
    u: tuple[float, ...]
    body: Body
    cargo: Body | None
    flank: Body  # has the stickers and the damage

    def x(self, u: float) -> float:
        """Position along the axis; the front of the vehicle lies at +length / 2."""
        return self.length * (0.5 - u)


def frame(identity: Identity) -> Frame:
    """The outline of an identity's kind, scaled to the identity's proportions."""
    kind = KIND[identity.kind]
    length, width, height = kind.size[0] * identity.length, kind.size[1], kind.size[2] * identity.height
    u, deck, roof = np.array(kind.outline, dtype=np.float64).T
    cowl = u[kind.cowl]
    u = np.interp(u, (0.0, cowl, 0.5, 1.0), (0.0, cowl * identity.bonnet, 0.5, 1.0))
    half = width / 2 * np.interp(u, (0, 0.02, 0.12, 0.9, 0.98, 1), (kind.taper, 0.95, 1, 1, 0.96, kind.taper))
    body = loft(length * (0.5 - u), half, kind.sill, deck * height, roof * height, kind.lean)
    cargo = None
    if kind.cargo:
        start, stop, bottom, top = kind.cargo
        ends, wide = length * (0.5 - np.array([start, stop])), np.full(2, width / 2 * (1.04 if bottom else 0.985))
        cargo = loft(ends, wide, max(bottom * height, kind.sill), *(np.full(2, top * height),) * 2, 0.0)
    wheel = kind.wheel * identity.wheel_size
    flank = cargo if cargo and identity.kind == "lorry" else body
    return Frame(kind, length, width, height, wheel, tuple(u.tolist()), body, cargo, flank)

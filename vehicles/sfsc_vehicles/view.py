"""Position and projection of a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfsc_vehicles.camera import Shot
from sfsc_vehicles.mesh import Floats

__all__ = ["View", "aim"]


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera; the rows of `axes` point right, down and ahead."""

    eye: Floats  # [3]
    axes: Floats  # [3, 3]
    focal: float  # pixels
    centre: Floats  # [2], pixels

    def project(self, points: Floats) -> Floats:
        """World points [n, 3] in pixels [n, 2]; all must lie ahead of the camera."""
        seen = (points - self.eye) @ self.axes.T
        return seen[:, :2] / seen[:, 2:] * self.focal + self.centre

    def clip(self, points: Floats, near: float = 0.5) -> Floats:
        """The part of a polygon [n, 3] that lies at least `near` metres ahead of the camera."""
        depth = (points - self.eye) @ self.axes[2] - near
        kept = []
        for i in range(len(points)):
            j = (i + 1) % len(points)
            if depth[i] >= 0:
                kept.append(points[i])
            if (depth[i] >= 0) != (depth[j] >= 0):
                kept.append(points[i] + (points[j] - points[i]) * (depth[i] / (depth[i] - depth[j])))
        return np.array(kept).reshape(-1, 3)


def aim(shot: Shot, vertices: Floats, canvas: int) -> View:
    """The camera of a shot, zoomed so that the vehicle (vertices [v, 3]) fills `shot.fill` of `canvas` pixels."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    azimuth, elevation, roll = np.radians((shot.azimuth, shot.elevation, shot.roll))
    back = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    down = np.cross(-back, right)
    cos, sin = np.cos(roll), np.sin(roll)
    axes = np.stack([cos * right + sin * down, cos * down - sin * right, -back])
    distance = shot.lens.reach * (2.0 + 0.6 * (high - low)[0])
    unit = View((low + high) / 2 + distance * back, axes, 1.0, np.zeros(2))
    seen = unit.project(vertices)
    focal = shot.fill * canvas / float(np.ptp(seen, axis=0).max())
    middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
    return View(unit.eye, axes, focal, canvas * (0.5 + np.array(shot.shift)) - middle * focal)

"""Faces in a binary space partition, which gives their drawing order without a depth buffer.

What lies behind a separating plane, seen from the eye, is drawn first. Inside a convex cell only faces that point
towards the eye are drawn, so their order does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfsc_vehicles.identity import Colour

__all__ = ["Face", "Floats", "Mesh", "Node", "Split", "box", "chain", "compile_mesh"]

Floats = NDArray[np.float64]
Corner = tuple[float, float, float]


class Face(NamedTuple):
    """A flat polygon; `outward` is any vector on its visible side; gloss and glow are 0..1."""

    points: Floats  # [k, 3], metres
    outward: ArrayLike
    colour: Colour
    gloss: float = 0.0
    glow: float = 0.0


class Split(NamedTuple):
    """Two parts of space on either side of the plane `coordinate[axis] == at`."""

    axis: int
    at: float
    below: Node
    above: Node


Node: TypeAlias = "Face | Split | list[Node]"
_Order: TypeAlias = "int | tuple[int, float, _Order, _Order] | list[_Order]"


@dataclass(frozen=True, eq=False)
class Mesh:
    """All faces of one vehicle; face f has the vertices starts[f]:starts[f + 1]."""

    vertices: Floats  # [v, 3]
    starts: NDArray[np.int64]  # [f + 1]
    centres: Floats  # [f, 3]
    normals: Floats  # [f, 3], unit length
    colours: Floats  # [f, 3]
    gloss: Floats  # [f]
    glow: Floats  # [f]
    order: _Order

    def visible(self, eye: Floats) -> NDArray[np.int64]:
        """Numbers of the faces that point towards `eye` ([3]), in drawing order: farthest first."""
        ordered: list[int] = []
        _walk(self.order, eye, ordered)
        facing = np.einsum("fc,fc->f", self.normals, eye - self.centres) > 0.0
        numbers = np.array(ordered, dtype=np.int64)
        return np.asarray(numbers[facing[numbers]])


def compile_mesh(root: Node) -> Mesh:
    """The mesh of all faces under `root`."""
    faces: list[Face] = []
    order = _number(root, faces)
    vertices = np.concatenate([face.points for face in faces])
    starts = np.cumsum([0, *(len(face.points) for face in faces)])
    following = np.concatenate([np.roll(face.points, -1, axis=0) for face in faces])
    normals = np.add.reduceat(np.cross(vertices, following), starts[:-1])
    outward = np.array([face.outward for face in faces], dtype=np.float64)
    normals *= np.where(np.einsum("fc,fc->f", normals, outward) < 0.0, -1.0, 1.0)[:, None]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Mesh(
        vertices=vertices,
        starts=starts,
        centres=np.add.reduceat(vertices, starts[:-1]) / np.diff(starts)[:, None],
        normals=normals,
        colours=np.array([face.colour for face in faces]),
        gloss=np.array([face.gloss for face in faces]),
        glow=np.array([face.glow for face in faces]),
        order=order,
    )


def chain(axis: int, cells: Sequence[Node], cuts: Sequence[float]) -> Node:
    """Cells in order of decreasing coordinate, with the separating planes `cuts` between them."""
    node = cells[-1]
    for cell, cut in zip(reversed(cells[:-1]), reversed(cuts), strict=True):
        node = Split(axis, cut, below=node, above=cell)
    return node


def box(low: Corner, high: Corner, colour: Colour, gloss: float = 0.0, glow: float = 0.0) -> Node:
    """An upright box between two corners, without the bottom, which is never seen."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    sides = {
        (1, 0, 0): ((x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)),
        (-1, 0, 0): ((x0, y0, z0), (x0, y1, z0), (x0, y1, z1), (x0, y0, z1)),
        (0, 1, 0): ((x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)),
        (0, -1, 0): ((x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)),
        (0, 0, 1): ((x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)),
    }
    return [Face(np.array(points), outward, colour, gloss, glow) for outward, points in sides.items()]


def _number(node: Node, faces: list[Face]) -> _Order:
    if isinstance(node, Face):
        faces.append(node)
        return len(faces) - 1
    if isinstance(node, Split):
        return (node.axis, node.at, _number(node.below, faces), _number(node.above, faces))
    return [_number(child, faces) for child in node]


def _walk(order: _Order, eye: Floats, out: list[int]) -> None:
    if isinstance(order, int):
        out.append(order)
    elif isinstance(order, tuple):
        axis, at, below, above = order
        for part in (below, above) if eye[axis] > at else (above, below):
            _walk(part, eye, out)
    else:
        for part in order:
            _walk(part, eye, out)

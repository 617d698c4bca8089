"""A vehicle as one mesh."""

from __future__ import annotations

from functools import lru_cache

from sfsc_vehicles import marks, parts
from sfsc_vehicles.body import GREENHOUSE, TOP, Skin, cells
from sfsc_vehicles.identity import PAINTS, Colour, Identity
from sfsc_vehicles.kinds import Frame, frame
from sfsc_vehicles.mesh import Mesh, Node, Split, compile_mesh
from sfsc_vehicles.roof_load import load
from sfsc_vehicles.wheels import tyres, wheels

__all__ = ["vehicle"]

_PAINT_GLOSS = 0.45


@lru_cache(maxsize=64)
def vehicle(identity: Identity) -> Mesh:
    """The mesh of one identity; metres, x ahead, y to the left, z up, standing on z = 0 around the origin."""
    shape = frame(identity)
    half, colour = shape.width / 2, parts.TRIM if identity.dark_trim else identity.shade
    node: Node = [parts.underbody(shape), tyres(shape), _bodies(shape, identity), *wheels(shape, identity)]
    node = Split(1, -half, parts.mirror(shape, -1, colour), node)
    node = Split(1, half, node, parts.mirror(shape, 1, colour))
    return compile_mesh(load(shape, identity)._replace(below=node))


def _bodies(shape: Frame, identity: Identity) -> Node:
    glass, lines = parts.screens(shape), marks.racing(shape, identity)
    on_top = {i: [*glass.get(i, ()), *lines.get(i, ())] for i in range(len(shape.u) - 1)}
    ahead: list[Node] = [
        cells(shape.body, _skin(shape, identity), on_top),
        *parts.doors(shape, identity),
        *marks.stripes(shape.body, identity),
        *parts.windows(shape),
    ]
    own = [*marks.damage(shape, identity), *marks.stickers(shape, identity)]
    if shape.cargo is None:
        return [*ahead, *own, *parts.ends(shape, identity)]
    bed = 0.45 * shape.height if identity.kind == "pickup" else None
    behind = [cells(shape.cargo, _cargo_skin(identity), {}, bed), *marks.stripes(shape.cargo, identity)]
    (behind if shape.flank is shape.cargo else ahead).extend(own)
    return [Split(0, float(shape.cargo.x[0]), behind, ahead), *parts.ends(shape, identity)]


def _skin(shape: Frame, identity: Identity) -> Skin:
    """Colour of each strip of each slice: two-tone schemes and unpainted trim."""
    second, last = PAINTS[identity.second], len(shape.u) - 2
    roofline = TOP - 1 if identity.kind == "van" else GREENHOUSE

    def skin(i: int, strip: int) -> tuple[Colour, float]:
        raised = shape.body.z[i : i + 2, 4].max() > 1.25 * shape.body.z[i : i + 2, 3].min()
        if identity.dark_trim and (strip == 0 or (strip == 1 and i in (0, last))):
            return parts.TRIM, 0.05
        toned = {
            "roof": strip >= roofline and raised,
            "lower": strip <= 1,
            "bonnet": strip >= TOP - 1 and i < shape.kind.cowl,
        }
        return second if toned.get(identity.scheme, False) else identity.shade, _PAINT_GLOSS

    return skin


def _cargo_skin(identity: Identity) -> Skin:
    lower = PAINTS[identity.second] if identity.scheme == "lower" else identity.panel

    def skin(_slice: int, strip: int) -> tuple[Colour, float]:
        if identity.dark_trim and strip == 0:
            return parts.TRIM, 0.05
        return lower if strip <= 1 else identity.panel, 0.25

    return skin

"""The identity of a vehicle: all traits that do not depend on camera, weather or background."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["KINDS", "PAINTS", "Colour", "Identity", "Sticker", "make_identity"]

Colour = tuple[float, float, float]  # red, green, blue in 0..1

KINDS = ("hatchback", "saloon", "estate", "suv", "pickup", "van", "lorry", "bus")

# Few and mostly grey, so that many vehicles share a paint: colour alone must not identify a vehicle.
PAINTS: dict[str, Colour] = {
    "white": (0.90, 0.90, 0.88),
    "silver": (0.66, 0.68, 0.70),
    "grey": (0.40, 0.42, 0.44),
    "black": (0.085, 0.085, 0.095),
    "navy": (0.09, 0.14, 0.31),
    "blue": (0.10, 0.33, 0.68),
    "red": (0.74, 0.09, 0.08),
    "dark green": (0.08, 0.28, 0.18),
    "beige": (0.80, 0.74, 0.60),
    "orange": (0.90, 0.43, 0.08),
    "yellow": (0.93, 0.73, 0.12),
    "sky blue": (0.47, 0.68, 0.82),
    "burgundy": (0.38, 0.06, 0.11),
    "teal": (0.07, 0.45, 0.47),
    "brown": (0.33, 0.22, 0.15),
    "lime": (0.56, 0.70, 0.16),
}
_COMMON = np.array([3, 2.5, 2, 2, 1.5, 1.5, 1.8, 1, 0.9, 0.8, 0.8, 0.8, 0.8, 0.7, 0.7, 0.4])
SCHEMES = ("plain", "roof", "lower", "bonnet")
STRIPES = ("none", "side", "double", "racing", "wedge", "chequer")
SHAPES = ("disc", "ring", "star", "square", "diamond", "triangle", "cross", "bars")
INKS = ("white", "black", "red", "blue", "yellow", "dark green", "orange", "sky blue")
WHEELS = ("five spoke", "many spoke", "hubcap", "steel", "star")
LOADS = ("none", "rack", "box", "ladder", "sign")
DAMAGES = ("none", "dent", "scratch", "panel")


@dataclass(frozen=True)
class Sticker:
    """A mark on both flanks; `place`: position along the free panel, from its front (0) to its rear (1)."""

    shape: str
    ink: str
    place: float
    size: float


@dataclass(frozen=True)
class Identity:
    """One vehicle. `length`, `height`, `bonnet` and `wheel_size` are factors near 1 on those of its kind."""

    index: int
    kind: str
    length: float
    height: float
    bonnet: float
    wheel_size: float
    paint: str
    shade: Colour
    second: str
    scheme: str
    stripe: str
    stripe_ink: str
    stickers: tuple[Sticker, ...]
    wheel: str
    dark_wheels: bool
    dark_trim: bool
    load: str
    load_ink: str
    damage: str
    damage_place: float
    damage_side: int

    @property
    def panel(self) -> Colour:
        """Colour under the stickers; a lorry has them on its load box, which has the second paint."""
        return PAINTS[self.second] if self.kind == "lorry" else self.shade


def make_identity(seed: int, index: int, twin_share: float = 0.25) -> Identity:
    """Identity number `index` of those that `seed` gives.

    A share `twin_share` of the identities are twins, numbers 2k and 2k + 1, that differ in one sticker only.

    Raises:
        ValueError: a number is negative, or the share is outside 0..1.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be >= 0; found {seed} and {index}")
    if not 0.0 <= twin_share <= 1.0:
        raise ValueError(f"twin_share must lie in 0..1; found {twin_share}")
    pair = np.random.default_rng([seed, index // 2, 1])
    twins = bool(pair.random() < twin_share)
    base = index - index % 2 if twins else index
    original = _draw(np.random.default_rng([seed, base, 2]), base, marked=twins)
    return original if base == index else _twin(original, pair)


def _draw(rng: np.random.Generator, index: int, marked: bool) -> Identity:
    kind = str(rng.choice(KINDS))
    paint, second = (str(p) for p in rng.choice(list(PAINTS), 2, replace=False, p=_COMMON / _COMMON.sum()))
    ground = second if kind == "lorry" else paint
    stripe_ink = _ink(rng, ground)
    red, green, blue = (PAINTS[paint] + rng.normal(0.0, 0.02, 3)).clip(0.03, 0.95).tolist()
    return Identity(
        index=index,
        kind=kind,
        length=rng.uniform(0.93, 1.07),
        height=rng.uniform(0.94, 1.06),
        bonnet=rng.uniform(0.85, 1.15),
        wheel_size=rng.uniform(0.93, 1.08),
        paint=paint,
        shade=(red, green, blue),
        second=second,
        scheme=str(rng.choice(SCHEMES, p=(0.58, 0.16, 0.16, 0.10))),
        stripe=str(rng.choice(STRIPES, p=(0.45, 0.13, 0.10, 0.12, 0.12, 0.08))),
        stripe_ink=stripe_ink,
        stickers=_stickers(rng, (ground, stripe_ink), at_least=int(marked)),
        wheel=str(rng.choice(WHEELS)),
        dark_wheels=bool(rng.random() < 0.3),
        dark_trim=bool(rng.random() < 0.5),
        load=str(rng.choice(LOADS, p=(0.52, 0.12, 0.14, 0.10, 0.12))),
        load_ink=_ink(rng, ground),
        damage=str(rng.choice(DAMAGES, p=(0.70, 0.10, 0.10, 0.10))),
        damage_place=rng.uniform(0.1, 0.9),
        damage_side=int(rng.choice((-1, 1))),
    )


def _twin(one: Identity, rng: np.random.Generator) -> Identity:
    """The same vehicle with the next number and another first sticker."""
    old, rest = one.stickers[0], one.stickers[1:]
    ground = one.second if one.kind == "lorry" else one.paint
    shape = str(rng.choice([shape for shape in SHAPES if shape != old.shape]))
    new = replace(old, shape=shape, ink=_ink(rng, ground, one.stripe_ink, old.ink))
    return replace(one, index=one.index + 1, stickers=(new, *rest))


def _stickers(rng: np.random.Generator, grounds: tuple[str, ...], at_least: int) -> tuple[Sticker, ...]:
    count = max(int(rng.choice(4, p=(0.30, 0.40, 0.22, 0.08))), at_least)
    places = (rng.permutation(3)[:count] + rng.uniform(0.25, 0.75, count)) / 3.0
    return tuple(
        Sticker(str(rng.choice(SHAPES)), _ink(rng, *grounds), place, rng.uniform(0.8, 1.0))
        for place in places.tolist()
    )


def _ink(rng: np.random.Generator, *grounds: str) -> str:
    """A random ink that contrasts with each of the given colours."""
    return str(rng.choice([ink for ink in INKS if all(_contrast(ink, ground) > 0.5 for ground in grounds)]))


def _contrast(one: str, other: str) -> float:
    return float(np.abs(np.subtract(PAINTS[one], PAINTS[other])).sum())

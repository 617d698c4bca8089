"""A crop: the part of an image that counts, as a box in pixels of the upright image, turned about its centre."""

import math
from dataclasses import dataclass

from sfsc_bundle.errors import ImageError

__all__ = ["Crop"]

ROUNDING = 1e-3
"""Pixels by which a corner may leave the image; cosines are not exact."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Crop:
    """A box of w × h pixels with its upper left corner at (x, y), then turned clockwise about its centre.

    Args:
        rotation: in degrees; what the turned box shows comes out upright.

    Raises:
        ValueError: a side is shorter than one pixel, or a number is not finite.
    """

    x: float
    y: float
    w: float
    h: float
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for name, value in zip(self.__slots__, (self.x, self.y, self.w, self.h, self.rotation), strict=True):
            if not math.isfinite(value):
                raise ValueError(f"{name}: must be finite, found {value}")
        for name, side in (("w", self.w), ("h", self.h)):
            if side < 1:
                raise ValueError(f"{name}: must be at least 1 pixel, found {side:g}")

    def corners(self) -> tuple[Point, Point, Point, Point]:
        """Where the upper left, upper right, lower right and lower left corners of the result lie in the image."""
        angle = math.radians(self.rotation)
        cosine, sine = math.cos(angle), math.sin(angle)
        centre = (self.x + self.w / 2, self.y + self.h / 2)

        def turned(right: float, down: float) -> Point:
            return centre[0] + right * cosine - down * sine, centre[1] + right * sine + down * cosine

        half_w, half_h = self.w / 2, self.h / 2
        return turned(-half_w, -half_h), turned(half_w, -half_h), turned(half_w, half_h), turned(-half_w, half_h)

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether all corners lie in an upright image of this width and height."""
        return all(
            -ROUNDING <= at <= side + ROUNDING
            for corner in self.corners()
            for at, side in zip(corner, size, strict=True)
        )

    def check(self, *sizes: tuple[int, int]) -> None:
        """Raise ImageError: crop_outside, where it fits into none of the sizes that the image may have."""
        if not any(self.fits(size) for size in sizes):
            (left, right), (top, bottom) = ((min(side), max(side)) for side in zip(*self.corners(), strict=True))
            raise ImageError(
                "crop_outside",
                f"crop must lie in the upright image of {sizes[0][0]}×{sizes[0][1]} pixels, "
                f"found corners from ({left:g}, {top:g}) to ({right:g}, {bottom:g})",
            )

"""The options that calls have in common, for type checkers; docs/api.md says what each of them means."""

from collections.abc import Sequence
from typing import Literal, TypedDict

__all__ = ["BudgetArguments", "CropArgument", "EmbedArguments", "Vector", "VectorArguments"]

Vector = Sequence[float] | str
"""Numbers, or base64 of little-endian float32."""


CropArgument = tuple[float, float, float, float] | tuple[float, float, float, float, float]
"""x, y, w, h in pixels of the upright image, and degrees that the box is turned clockwise about its centre."""


class BudgetArguments(TypedDict, total=False):
    """Which width computes: an exact one, or limits that it must keep."""

    width: str | float
    latency_ms: float
    gflops: float
    deadline_ms: float
    min_quality: float


class EmbedArguments(BudgetArguments, total=False):
    """Options of `embed`; a crop holds for every image of the call."""

    crop: CropArgument
    encoding: Literal["float", "base64"]


class VectorArguments(BudgetArguments, total=False):
    """Options where a vector, with its space, may stand in the place of an image."""

    crop: CropArgument
    space: str

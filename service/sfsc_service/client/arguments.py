"""The options that calls have in common, for type checkers; docs/api.md says what each of them means."""

from collections.abc import Sequence
from typing import Literal, TypedDict

__all__ = ["BudgetArguments", "CropArgument", "EmbedArguments", "Vector", "VectorArguments"]

Vector = Sequence[float] | str
"""Numbers, or base64 of little-endian float32."""


CropArgument = tuple[float, float, float, float] | tuple[float, float, float, float, float]
"""x, y, w, h in pixels of the upright image, and degrees that the box is turned clockwise about its centre."""


class BudgetArguments(TypedDict, total=False):
    """Which width computes: an exact one, or limits that it must keep. None: not given."""

    width: str | float | None
    latency_ms: float | None
    gflops: float | None
    deadline_ms: float | None
    min_quality: float | None


class EmbedArguments(BudgetArguments, total=False):
    """Options of `embed`; a crop holds for every image of the call."""

    crop: CropArgument | None
    encoding: Literal["float", "base64"] | None


class VectorArguments(BudgetArguments, total=False):
    """Options where a vector, with its space, may stand in the place of an image."""

    crop: CropArgument | None
    space: str | None

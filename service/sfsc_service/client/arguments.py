"""The options that calls have in common, for type checkers; docs/api.md says what each of them means."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

__all__ = [
    "BudgetArguments",
    "CropArgument",
    "EmbedArguments",
    "HitArguments",
    "SearchArguments",
    "Vector",
    "VectorArguments",
    "split_search",
]

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


class HitArguments(TypedDict, total=False):
    """Which items are hits of a search, and what is told of them."""

    k: int | None
    offset: int | None
    min_score: float | None
    exclude: Sequence[str] | None
    include_self: bool | None
    group_by: str | None
    group_size: int | None
    vectors: bool | None
    encoding: Literal["float", "base64"] | None
    exact: bool | None


class SearchArguments(VectorArguments, HitArguments, total=False):
    """Options of `search`."""


def split_search(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of `search` that say how an image is embedded, and those that say which items are hits."""
    hits = {name: value for name, value in options.items() if name in HitArguments.__annotations__}
    return {name: value for name, value in options.items() if name not in hits}, hits

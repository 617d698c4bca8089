"""Which maps bring the narrow widths nearest to the full one on a sample of images, and whether they help.

No labels are needed: a width's map is fitted from its vectors to the full width's of the same images, by least
squares that keep it near to a rotation: so it has an inverse. Some images are held out. What is searched for among
them is split in two: one half chooses the method, the other one judges it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, ParamSpec, Protocol, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from sfsc_bundle.linear_maps import Moments
from sfsc_bundle.mixed_gallery import evaluate_mixed_gallery
from sfsc_bundle.retrieval import Floats
from sfsc_service.gallery.sampled_images import EmbeddedSample, NotMeasurableError

__all__ = ["HELD_OUT", "QUERIES", "FittedMaps", "fit_maps", "sample_size"]

HELD_OUT, QUERIES, MIN_QUERIES = 500, 250, 20
"""Images that no map is fitted on, and queries among them, at most and at least."""
FITTED, PER_DIMENSION = 1_000, 2
LEAST_GAIN, LEAST_GAIN_OF_COPIES = 0.1, 2.0
"""Points of mAP that maps have to gain: less is not worth the rewriting of every narrow vector. With near copies
it is more: they are alike in more than photographs of the same thing are, which a small gain may cost."""
MOST_CONDITION = 1_000.0
"""Of a map; beyond, its inverse would not bring vectors back as they were."""
DRAWS = 3

Method = Literal["procrustes", "least-squares"]
CANDIDATES: tuple[tuple[Method, float], ...] = (
    ("procrustes", 0.0),
    ("least-squares", 0.01),
    ("least-squares", 0.1),
    ("least-squares", 1.0),
)
"""Methods and their strengths."""
A = ParamSpec("A")
T = TypeVar("T")
Ints = npt.NDArray[np.int64]


class IdleCalls(Protocol):
    """What makes a blocking call in an idle moment."""

    async def call(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T: ...


@dataclass(frozen=True, slots=True, eq=False)
class FittedMaps:
    """`maps`: of the widths below the full one, by the method that was chosen; empty where none is better.

    `strength`: λ of least squares (`Moments.near_rotation`). `images`: those that the maps were fitted on.
    `queries`: those that judged them. `before`, `after`: their mAP in a gallery of mixed widths, mean over the
    query widths, without maps and with them. `helps`: whether they gain enough.
    """

    maps: dict[str, Floats]
    method: Method
    strength: float
    images: int
    queries: int
    before: float
    after: float
    helps: bool


def sample_size(dimension: int) -> int:
    """How many images to draw for vectors of a dimension."""
    return HELD_OUT + max(FITTED, PER_DIMENSION * dimension)


async def fit_maps(sample: EmbeddedSample, idle: IdleCalls) -> FittedMaps:
    """Fit, choose and judge, a step at a time, so that requests and the end of the service wait for one at most.

    Raises NotMeasurableError: too few images.
    """
    *narrow, full = sample.images
    fitted, judged = _split(sample)
    queries = judged.queries(QUERIES)
    if len(queries) < MIN_QUERIES:
        raise NotMeasurableError(f"at least {MIN_QUERIES} images to search for are needed, found {len(queries)}")
    moments = {w: await idle.call(Moments.of, fitted.images[w], fitted.images[full]) for w in narrow}
    chooses, judges = queries[::2], queries[1::2]
    best, chosen, maps = await idle.call(_score, judged, {}, chooses), CANDIDATES[0], dict[str, Floats]()
    for candidate in CANDIDATES:
        tried = {width: await idle.call(_map, one, *candidate) for width, one in moments.items()}
        if any([await idle.call(_has_no_inverse, values) for values in tried.values()]):
            continue
        if (found := await idle.call(_score, judged, tried, chooses)) > best:
            best, chosen, maps = found, candidate, tried
    before, after = [await idle.call(_score, judged, used, judges) for used in ({}, maps)]
    helps = after >= before + (LEAST_GAIN if judged.copies is None else LEAST_GAIN_OF_COPIES)
    return FittedMaps(maps, *chosen, len(fitted.identity), len(judges), before, after, helps)


def _split(sample: EmbeddedSample) -> tuple[EmbeddedSample, EmbeddedSample]:
    """The images to fit maps on, and those that are held out. Raises NotMeasurableError: too few images."""
    dimension, images = next(iter(sample.images.values())).shape[1], len(sample.identity)
    if images < (needed := max((3 * dimension - 1) // 2, 3 * MIN_QUERIES)):
        rule = f"at least {needed} images are needed for vectors of {dimension} numbers"
        raise NotMeasurableError(f"{rule}, found {images}")
    held = min(HELD_OUT, images // 3)
    while held < images and sample.identity[held] == sample.identity[held - 1]:
        held += 1  # what images show is either held out or fitted on
    return sample.part(slice(held, None)), sample.part(slice(held))


def _has_no_inverse(values: Floats) -> bool:
    """Whether vectors that were multiplied could not be brought back accurately."""
    return bool(np.linalg.cond(values) > MOST_CONDITION)


def _map(moments: Moments, method: Method, strength: float) -> Floats:
    match method:
        case "procrustes":
            return moments.rotation.astype(np.float32)
        case "least-squares":
            return moments.near_rotation(strength).astype(np.float32)
        case _:
            assert_never(method)


def _score(sample: EmbeddedSample, maps: dict[str, Floats], queries: Ints) -> float:
    """mAP of the queries, with maps, in galleries of mixed widths, mean over the query widths."""
    found = evaluate_mixed_gallery(*sample.mapped(maps).searches(queries), draws=DRAWS, shares=())
    return fmean(found.mean_ap)

"""A linear map from the vectors of one space to those of another, fitted on images that have a vector in both.

By least squares (docs/method.md §6) and without labels: what an image shows need not be known, because its vector
in the other space is what its old vector should become. Some images are held out. One half of them chooses how
strongly the map is held back, the other half judges it: by the cosine of mapped and new vector, and by how often
the mapped vector of an image finds that image first among the new vectors of all that judge.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfsc_bundle.linear_maps import Moments, apply_map
from sfsc_bundle.retrieval import Floats
from sfsc_service.errors import StartError

__all__ = ["LEAST_FOUND", "FittedSpaceMap", "fit_space_map", "images_for_map", "images_needed", "read_space_map"]

HELD_OUT = 500
FITTED, PER_DIMENSION = 1_000, 4
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""λ of the least squares (`Moments.ridge`)."""
LEAST_FOUND = 0.5
"""A map by which fewer images than this share find themselves would fill the gallery with noise."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedSpaceMap:
    """`values`: float32 [D, D′], for `apply_map`. `fitted`, `judged`: how many images it was fitted and judged on.

    `cosine`: of mapped and new vector, the median. `found`: the share of images that find themselves first.
    """

    values: Floats
    fitted: int
    judged: int
    cosine: float
    found: float

    @property
    def helps(self) -> bool:
        """Whether mapped vectors still tell images apart."""
        return self.found >= LEAST_FOUND


def images_needed(dimension: int) -> int:
    """How few images with a vector of this dimension a map can be fitted on."""
    return max(60, 2 * dimension)


def images_for_map(dimension: int) -> int:
    """How many images to draw; more would change little."""
    return HELD_OUT + max(FITTED, PER_DIMENSION * dimension)


def fit_space_map(old: Floats, new: Floats) -> FittedSpaceMap:
    """Fit on vectors [n, D] and [n, D′] of the same images, which were drawn at random: the first are held out.

    n must be `images_needed` of D or more.
    """
    held = min(HELD_OUT, len(old) // 3)
    moments = Moments.of(old[held:], new[held:])
    chooses, judges = slice(0, held, 2), slice(1, held, 2)
    candidates = [moments.ridge(strength).astype(np.float32) for strength in STRENGTHS]
    values = max(candidates, key=lambda one: _cosines(apply_map(old[chooses], one), new[chooses]).mean())
    mapped, wanted = apply_map(old[judges], values), new[judges]
    found = (mapped @ wanted.T).argmax(axis=1) == np.arange(len(wanted))
    cosine = float(np.median(_cosines(mapped, wanted)))
    return FittedSpaceMap(values, len(old) - held, len(wanted), cosine, float(found.mean()))


def read_space_map(path: Path, old: int, new: int) -> Floats:
    """The array `map` of an .npz file, float32 [old, new], or [old + 1, new] with a bias in its last row.

    Raises StartError: it cannot be read, or is no map between these dimensions.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values: Floats = stored["map"].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StartError(f"map: {path} must be an .npz file with an array `map`; found {error}") from error
    if values.shape not in ((old, new), (old + 1, new)) or not np.isfinite(values).all():
        rule = f"must hold finite numbers of shape {old}×{new}, or {old + 1}×{new} with a bias"
        raise StartError(f"map: {path} {rule}; found {'×'.join(map(str, values.shape))}")
    return values


def _cosines(one: Floats, other: Floats) -> Floats:
    found: Floats = np.einsum("nd,nd->n", one, other)
    return found

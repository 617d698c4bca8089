"""Maps are chosen and judged on images that they were not fitted on."""

import asyncio
from typing import Any

import numpy as np
import pytest

from sfsc_bundle.linear_maps import apply_map, unit_length
from sfsc_service.gallery.fitted_maps import FittedMaps, fit_maps
from sfsc_service.gallery.sampled_images import EmbeddedSample, NotMeasurableError

D, IMAGES, HELD = 8, 120, 40
NOISE = 0.2


class Now:
    """Every moment is idle."""

    async def call(self, call: Any, *args: Any) -> Any:
        return call(*args)


def fitted(made: EmbeddedSample) -> FittedMaps:
    return asyncio.run(fit_maps(made, Now()))


def sample(turn: float = 1.0, copies: bool = True, each: int = 1) -> EmbeddedSample:
    """Two widths; the narrow one is the full one turned, with noise of its own."""
    random = np.random.default_rng(0)
    identity = np.repeat(np.arange(IMAGES // each), each)
    rotation = np.linalg.qr(np.eye(D) + turn * random.standard_normal((D, D)))[0]
    centres = random.standard_normal((IMAGES // each, D))[identity]

    def embedded(count: int) -> dict[str, Any]:
        full = unit_length(centres[:count] + NOISE * random.standard_normal((count, D)))
        return {"0.5": unit_length(full @ rotation + NOISE * random.standard_normal((count, D)) / 2), "1.0": full}

    return EmbeddedSample(identity, embedded(IMAGES), embedded(HELD) if copies else None)


@pytest.mark.parametrize("copies", [True, False])
def test_a_turned_width_is_turned_back(copies: bool) -> None:
    made = sample(copies=copies, each=1 if copies else 4)
    found = fitted(made)
    assert found.helps
    assert found.after > found.before + 10
    assert (found.images, list(found.maps)) == (IMAGES - HELD, ["0.5"])
    before = np.sum(made.images["0.5"] * made.images["1.0"], axis=1).mean()
    after = np.sum(apply_map(made.images["0.5"], found.maps["0.5"]) * made.images["1.0"], axis=1).mean()
    assert after > max(0.9, before)


def test_nothing_is_fitted_on_what_judges() -> None:
    made, other = sample(), sample()
    other.images["0.5"][HELD - 1] = other.images["0.5"][0]
    found, again = fitted(made), fitted(other)
    assert (found.method, found.strength) == (again.method, again.strength)
    assert np.array_equal(found.maps["0.5"], again.maps["0.5"])


def test_images_of_one_identity_are_all_held_out_or_none_is() -> None:
    found = fitted(sample(copies=False, each=6))
    assert found.images % 6 == 0


def test_widths_that_agree_are_left_alone() -> None:
    made = sample()
    assert made.copies is not None
    images, copies = (dict.fromkeys(of, of["1.0"]) for of in (made.images, made.copies))
    alike = EmbeddedSample(made.identity, images, copies)
    found = fitted(alike)
    assert not found.helps


def test_too_few_images_are_told() -> None:
    with pytest.raises(
        NotMeasurableError, match="at least 60 images are needed for vectors of 8 numbers, found 59"
    ):
        fitted(sample().part(slice(59)))
    with pytest.raises(NotMeasurableError, match="at least 20 images to search for are needed, found 0"):
        fitted(sample(copies=False))

"""Golden vectors: what each kind of image must become. Expectations: `golden/make_golden.py`, numpy only."""

import re
from pathlib import Path

import numpy as np
import pytest

from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import preprocess
from tests.bundle.golden import make_golden

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = dict(np.load(GOLDEN / "expected.npz"))
NAMES = sorted(name for name in EXPECTED if "/" not in name)
RESIZED = Preprocessing(height=40, width=24)
SMALLEST = 8  # side that a manifest may ask for


def tolerance(name: str) -> int:
    """Levels: JPEG rounds in YCbCr, alpha rounds once; everything else is exact."""
    if name.startswith("jpeg"):
        return 2
    return 1 if re.search("rgba|la|alpha", name) else 0


def furthest(found: np.ndarray, expected: np.ndarray) -> int:
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


def test_every_image_has_an_expectation() -> None:
    images = {path.name for path in GOLDEN.iterdir() if path.suffix not in (".py", ".npz") and path.is_file()}
    assert images == set(NAMES)


def test_the_committed_expectations_are_those_of_the_script() -> None:
    computed = make_golden.expectations()
    assert computed.keys() == EXPECTED.keys()
    for name, array in computed.items():
        np.testing.assert_array_equal(array, EXPECTED[name], err_msg=name)


def test_the_image_has_no_symmetry_that_could_hide_a_wrong_orientation() -> None:
    upright = EXPECTED["jpeg-orientation-1.jpg"]
    square = upright[:32, :32]
    turned = [np.rot90(side, k) for side in (square, square.swapaxes(0, 1)) for k in range(4)]
    assert all(furthest(other, square) > 50 for other in turned[1:])


@pytest.mark.parametrize("name", [name for name in NAMES if min(EXPECTED[name].shape[:2]) >= SMALLEST])
def test_decoded(name: str) -> None:
    """At its own size, so that nothing is resized."""
    height, width, _ = EXPECTED[name].shape
    found = preprocess((GOLDEN / name).read_bytes(), Preprocessing(height=height, width=width))
    assert furthest(found, EXPECTED[name]) <= tolerance(name)


SCALES = {(128, 192): 1, (65, 96): 1, (64, 96): 2, (33, 49): 2, (32, 48): 4, (17, 24): 4, (16, 24): 8, (8, 12): 8}
"""Wanted height and width → the scale of a JPEG of 256×384: the smallest that leaves twice that."""


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", SCALES, ids=str)
def test_a_large_jpeg_is_decoded_no_larger_than_the_resize_needs(size: tuple[int, int], orientation: int) -> None:
    """Flat blocks survive a smaller DCT as they are, so the expectation needs no decoder."""
    data, upright = make_golden.large_jpeg(orientation)
    found = preprocess(data, Preprocessing(height=size[0], width=size[1]))
    scale = SCALES[size]
    assert furthest(found, make_golden.resized(upright[::scale, ::scale], size)) <= 3
    other = make_golden.resized(upright[:: 2 * scale, :: 2 * scale], size)
    assert furthest(found, other) > 3 or scale == 8


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("side", [449, 1025])
def test_a_side_that_the_scale_does_not_divide_is_not_stretched(side: int, orientation: int) -> None:
    """Smooth waves, so that a full decode and one at a smaller scale agree where they show the same part."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(2 * np.pi * k * (rows + columns / 2)) for k in (1, 2, 3)]
    upright = np.rint(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)
    size = side // 16
    found = preprocess(make_golden.oriented_jpeg(upright, orientation), Preprocessing(height=size, width=size))
    assert furthest(found, make_golden.resized(upright, (size, size))) <= 6


@pytest.mark.parametrize("name", NAMES)
def test_resized(name: str) -> None:
    found = preprocess((GOLDEN / name).read_bytes(), RESIZED)
    assert found.shape == (40, 24, 3)
    # One level more: Pillow rounds between its two passes.
    assert furthest(found, EXPECTED[f"{name}/resized"]) <= tolerance(name) + 1


@pytest.mark.parametrize("name", NAMES)
def test_same_bytes_same_pixels_in_memory_of_its_own(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    first, second = preprocess(data, RESIZED), preprocess(data, RESIZED)
    np.testing.assert_array_equal(first, second)
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert not np.shares_memory(first, second)

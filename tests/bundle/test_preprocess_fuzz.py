"""Whatever the bytes are: an array of the right shape, or an ImageError, and never a warning."""

import warnings
from pathlib import Path
from typing import get_args

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfsc_bundle.errors import ImageCode, ImageError
from sfsc_bundle.image_formats import available_formats
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import ImageLimits, preprocess
from tests.bundle.encoded_images import encoded

GOLDEN = Path(__file__).parent / "golden"
SEEDS = [
    *sorted(
        path.read_bytes()
        for path in GOLDEN.iterdir()
        if path.suffix in (".jpg", ".png", ".gif", ".webp", ".bmp") and path.stat().st_size < 5000
    ),
    *(encoded("TIFF", **way) for way in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"})),
    *(encoded(name) for name in ("AVIF", "HEIF") if name in available_formats()),
]
WANTED = Preprocessing(height=12, width=20)
LIMITS = ImageLimits(max_bytes=10_000, max_pixels=250_000)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good image after a few edits: bytes overwritten, cut out, doubled, or taken from another image."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        start = draw(st.integers(0, len(data) - 1))
        stop = min(len(data), start + draw(st.sampled_from([1, 1, 2, 4, 16, 200])))
        kind = draw(st.sampled_from(["overwrite", "overwrite", "cut", "double", "splice", "truncate"]))
        if kind == "overwrite":
            data[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
        elif kind == "cut":
            del data[start:stop]
        elif kind == "double":
            data[start:start] = data[start:stop]
        elif kind == "splice":
            data[start:stop] = draw(st.sampled_from(SEEDS))[start:stop]
        else:
            del data[start:]
    return bytes(data)


def check(data: bytes) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = outcome(data)
    if isinstance(found, ImageError):
        assert found.code in get_args(ImageCode)
        assert str(found)
    else:
        assert found.shape == (12, 20, 3)
        assert found.dtype == np.uint8
    assert heard == []


def outcome(data: bytes) -> np.ndarray | ImageError:
    try:
        return preprocess(data, WANTED, LIMITS)
    except ImageError as error:
        return error


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_mutated_images(data: bytes) -> None:
    check(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", *(seed[:12] for seed in SEEDS)]), st.binary(max_size=300))
def test_noise_behind_a_good_start(start: bytes, rest: bytes) -> None:
    check(start + rest)

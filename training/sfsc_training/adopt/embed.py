"""Embed images with the networks of an adoption, before any map, and with the base's widths as they are."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console

from sfsc_bundle.progress import bar
from sfsc_bundle.runner import INPUT, OUTPUT, make_runner
from sfsc_training.adopt.adoption import Adoption
from sfsc_training.adopt.compose import without_direction
from sfsc_training.data.dataset import Split
from sfsc_training.data.images import Images, load_split
from sfsc_training.errors import AdoptionError
from sfsc_training.evaluation import Embedded
from sfsc_training.onnx_session import open_session

__all__ = ["embed_part"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Network = Callable[[Pixels], Floats]
"""Images uint8 [n, H, W, 3] of the bundle's size → unit embeddings [n, D′]."""

_BATCH = 32


def embed_part(
    adoption: Adoption, split: Split, widths: Sequence[str], console: Console
) -> tuple[Embedded, Images]:
    """A split with its embeddings at some widths, and its images.

    Raises:
        DataError: an image cannot be read.
        AdoptionError: a network gives an image zeros, or numbers that are not finite.
    """
    with bar(console, "reading images", len(split.paths)) as progress:
        count = len(split.paths)
        split, pixels = load_split(split, adoption.section, progress.advance)
    if len(pixels) < count:
        console.print(f"{count - len(pixels)} of {count} images cannot be read and are left out", highlight=False)
    found = {}
    with bar(console, "embedding", len(widths) * math.ceil(len(pixels) / _BATCH)) as progress:
        for width in widths:
            network = _network(adoption, width)
            rows = []
            for start in range(0, len(pixels), _BATCH):
                rows.append(network(pixels[start : start + _BATCH]))
                progress.advance(f"width {width}")
            found[width] = np.concatenate(rows)
            for row in without_direction(found[width])[:1]:
                raise AdoptionError(
                    f"width {width} gives zeros, or numbers that are not finite, for {split.names[row]}"
                )
    return Embedded(split, found), pixels


def _network(adoption: Adoption, width: str) -> Network:
    for foreign in adoption.networks:
        if foreign.width == width:
            session = open_session(foreign.compose(adoption.size))
            return lambda pixels: session.run([OUTPUT], {INPUT: pixels})[0]
    assert adoption.base is not None
    return make_runner(adoption.base, width, threads=0)

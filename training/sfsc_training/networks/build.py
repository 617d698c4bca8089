"""Build the family of sub-models of a recipe."""

from collections.abc import Sequence

import torch

from sfsc_training.config import NetworkSection
from sfsc_training.errors import NetworkError
from sfsc_training.networks.family import Family
from sfsc_training.networks.separate import Separate
from sfsc_training.networks.switchable import make_switchable_family

__all__ = ["check_widths", "make_family"]

_LONGEST_REASON = 200


def make_family(section: NetworkSection, ratios: Sequence[float]) -> Family:
    """One switchable network, or a separate network for each width. Raises NetworkError."""
    if section.separate:
        return Separate([make_switchable_family(section, [ratio]) for ratio in ratios])
    return make_switchable_family(section, ratios)


def check_widths(family: Family, ratios: Sequence[float], height: int, width: int) -> None:
    """Embed two black images of this size at every width. The family is not changed.

    Cropping looks at one layer at a time; only a forward pass shows whether the network splits channels at a fixed
    position, or pools a small image down to nothing.

    Raises:
        NetworkError: a width does not run; the message names the width and the size.
    """
    images, training = torch.zeros(2, 3, height, width, dtype=torch.uint8), family.training
    family.eval()
    for index, ratio in enumerate(ratios):
        try:
            with torch.no_grad():
                family(images, index)
        except Exception as error:  # a forward pass may raise anything
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise NetworkError(
                f"the network does not run at width {ratio} on images of {height} x {width}: {reason}"
            ) from error
    family.train(training)

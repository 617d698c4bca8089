"""The family that a recipe asks for."""

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
    """One switchable network, or a network for each width. Raises NetworkError."""
    if section.separate:
        return Separate([make_switchable_family(section, [ratio]) for ratio in ratios])
    return make_switchable_family(section, ratios)


def check_widths(family: Family, ratios: Sequence[float], height: int, width: int) -> None:
    """Embed an empty image of this size at every ratio; nothing of the family changes.

    The surgery knows layers one by one; only a run shows whether a forward pass splits channels at a fixed
    position, or pools a small image away.

    Raises:
        NetworkError: a width that does not run; the message names it and the size.
    """
    images, training = torch.zeros(2, 3, height, width, dtype=torch.uint8), family.training
    family.eval()
    for index, ratio in enumerate(ratios):
        try:
            with torch.no_grad():
                family(images, index)
        except Exception as error:  # whatever a forward pass of any backbone may raise
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise NetworkError(
                f"the network does not run at width {ratio} on images of {height} x {width}: {reason}"
            ) from error
    family.train(training)

"""The family that a recipe asks for."""

from collections.abc import Sequence

from sfsc_training.config import NetworkSection
from sfsc_training.networks.family import Family
from sfsc_training.networks.separate import Separate
from sfsc_training.networks.switchable import make_switchable_family

__all__ = ["make_family"]


def make_family(section: NetworkSection, ratios: Sequence[float]) -> Family:
    """One switchable network, or a network for each width. Raises NetworkError."""
    if section.separate:
        return Separate([make_switchable_family(section, [ratio]) for ratio in ratios])
    return make_switchable_family(section, ratios)

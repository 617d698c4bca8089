"""In which keys two recipes differ."""

from collections.abc import Iterator, Mapping
from typing import Any

from sfsc_bundle.described import describe_value
from sfsc_training.config.recipe import Recipe
from sfsc_training.config.sections import NetworkSection

__all__ = ["differences", "network_differences"]

_SHOWN = 3
_SHAPE = ("backbone", "arguments", "stem", "stem_stride", "image_channels", "dimension", "separate")


def differences(there: Recipe, here: Recipe) -> str:
    """The keys with different values, such as `optimiser.steps is 600 there and 900 here`."""
    old, new = dict(_flat(there.model_dump(mode="json"))), dict(_flat(here.model_dump(mode="json")))
    found = [
        f"{key} is {describe_value(old.get(key))} there and {describe_value(new.get(key))} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + rest


def network_differences(there: Recipe, here: Recipe) -> str:
    """The keys that make the shape of a network, as `differences`; empty where the shapes are the same."""
    return differences(_shape(there), _shape(here))


def _shape(recipe: Recipe) -> Recipe:
    """A recipe of defaults, but for what decides which weights a network has."""
    kept = {name: getattr(recipe.network, name) for name in _SHAPE}
    return Recipe(name="shape", method="any", widths=recipe.widths, network=NetworkSection(**kept))


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value

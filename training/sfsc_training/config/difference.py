"""In which keys two recipes differ."""

from collections.abc import Iterator, Mapping
from typing import Any

from sfsc_bundle.described import describe_value
from sfsc_training.config.recipe import Recipe

__all__ = ["differences"]

_SHOWN = 3


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


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value

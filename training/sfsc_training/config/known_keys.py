"""All keys of a recipe, and which of them someone meant who wrote another one."""

import difflib
from collections.abc import Iterator
from functools import cache
from typing import get_args

from pydantic import BaseModel

from sfsc_training.config.recipe import Recipe

__all__ = ["known_keys", "nearest_key"]


@cache
def known_keys() -> tuple[str, ...]:
    """Every key with its sections, such as `loss.evidential.kl_weight`."""
    return tuple(_keys(Recipe, ""))


def nearest_key(key: str) -> str | None:
    """The known key that is most like an unknown one; None where none is.

    >>> nearest_key("optimizer.step"), nearest_key("steps"), nearest_key("colour of the sky")
    ('optimiser.steps', 'optimiser.steps', None)
    """
    same_end = [known for known in known_keys() if known.rpartition(".")[2] == key.rpartition(".")[2]]
    found = difflib.get_close_matches(key, same_end, 1, 0.5) or difflib.get_close_matches(
        key, known_keys(), 1, 0.6
    )
    return next(iter(found), same_end[0] if len(same_end) == 1 else None)


def _keys(model: type[BaseModel], above: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if sections and name != "normalisation":
            yield from _keys(sections[0], f"{above}{name}.")
        else:
            yield f"{above}{name}"

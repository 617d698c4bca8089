"""A new run that starts from the weights of another one: for more steps, another rate or more images."""

import re
from collections.abc import Sequence
from pathlib import Path

from sfsc_training.checkpoint import read_recipe
from sfsc_training.config import Recipe, change_recipe

__all__ = ["continued_recipe", "following_name"]

_NUMBERED = re.compile(r"(.*)-(\d{1,6})")
# What decides the first weights, which are the other run's now; and it has grown up to its image size already.
_STARTED = {"pretrained": False, "weights": None, "weights_file": None}
_GROWN = {"growing": ()}


def continued_recipe(start: Path, recipe: Recipe | None, settings: Sequence[str]) -> Recipe:
    """The recipe of a run that starts from the weights of the run `start`.

    Args:
        recipe: None: that of `start`.
        settings: overrides, as `load_recipe` takes them. Without a name among them, a run of the same name as
            `start` gets the next one.

    Raises:
        CheckpointError: `start` is no run folder.
        RecipeError: a setting is wrong.
    """
    earlier = read_recipe(start)
    recipe = recipe or earlier
    name = following_name(earlier.name) if recipe.name == earlier.name else recipe.name
    network = recipe.network.model_copy(update=_STARTED | {"start": start})
    augmentation = recipe.augmentation.model_copy(update=_GROWN)
    begun = recipe.model_copy(update={"name": name, "network": network, "augmentation": augmentation})
    return change_recipe(begun, settings)


def following_name(name: str) -> str:
    """The name after another one.

    >>> following_name("photos"), following_name("photos-2")
    ('photos-2', 'photos-3')
    """
    found = _NUMBERED.fullmatch(name)
    return f"{name}-2" if found is None else f"{found[1]}-{int(found[2]) + 1}"

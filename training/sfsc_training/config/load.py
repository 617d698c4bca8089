"""Read recipes: TOML files by path or packaged name, `base` recipes merged in, settings from the command line."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sfsc_bundle.broken_rule import BrokenRule, first_broken_rule
from sfsc_training.config.known_keys import nearest_key
from sfsc_training.config.recipe import Recipe
from sfsc_training.errors import RecipeError

__all__ = ["change_recipe", "load_recipe", "packaged_recipes", "parse_recipe", "purpose"]

_MAX_BASES = 4
_UNKNOWN = "is not a known key"


def packaged_recipes() -> dict[str, Path]:
    """The recipes that come with the package: name → file."""
    here = Path(__file__).parent.parent
    folder = here / "recipes" if (here / "recipes").is_dir() else here.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str | None, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe by path or packaged name; the recipe that it names as `base` is read first and overridden.

    Args:
        name: None: a recipe of defaults.
        settings: overrides in the form `section.key=value`; the value is TOML, or else a string.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key or a value out of range.
    """
    path = None if name is None else _find(name, Path())
    document = {"name": "defaults"} if path is None else _read(path, _MAX_BASES)
    return _parse_changed(document, settings, "settings" if path is None else str(path))


def change_recipe(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with overrides, as `load_recipe` takes them. Raises RecipeError."""
    return _parse_changed(recipe.model_dump(mode="json"), settings, f"recipe {recipe.name}")


def parse_recipe(document: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Validate a recipe. Raises RecipeError, which names the key."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_described(first_broken_rule(error))}") from error


def purpose(path: Path) -> str:
    """What a recipe is for: the first sentence of the comment at the head of its file."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.lstrip("# ") for line in lines).partition(". ")[0].rstrip(".")


def _parse_changed(document: dict[str, Any], settings: Sequence[str], source: str) -> Recipe:
    try:
        return Recipe.model_validate(_changed(document, settings))
    except ValidationError as error:
        rule = first_broken_rule(error)
        blamed = _blamed(settings, rule) or _breaking(document, settings)
        if blamed is None:
            raise RecipeError(f"{source}: {_described(rule)}") from error
        key = blamed.partition("=")[0].strip()
        place = tuple(key.split(".")) if rule.rule == _UNKNOWN else rule.place
        raise RecipeError(f"--set {blamed}: {_described(BrokenRule(place, rule.rule))}") from error


def _changed(document: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(document))
    for setting in settings:
        _apply(changed, setting)
    return changed


def _blamed(settings: Sequence[str], rule: BrokenRule) -> str | None:
    """The setting that broke a rule: of its key, of one in the same section, or the one that the rule names."""
    place = ".".join(rule.place)
    for setting in reversed(settings):
        key = setting.partition("=")[0].strip()
        if place and (f"{key}.".startswith(f"{place}.") or f"{place}.".startswith(f"{key}.")):
            return setting
    named = (setting for setting in reversed(settings) if setting.partition("=")[0].strip() in rule.rule)
    return next(named, None)


def _breaking(document: Mapping[str, Any], settings: Sequence[str]) -> str | None:
    """The last setting without which the recipe would do: of a rule that names neither its key nor its section."""
    for at in reversed(range(len(settings))):
        try:
            Recipe.model_validate(_changed(document, [*settings[:at], *settings[at + 1 :]]))
        except ValidationError:
            continue
        return settings[at]
    return None


def _described(rule: BrokenRule) -> str:
    if not rule.place:  # of the recipe as a whole; the rule names the keys
        return rule.rule
    key = ".".join(rule.place)
    nearest = nearest_key(key) if rule.rule == _UNKNOWN else None
    return f"{rule}; the nearest one is {nearest}" if nearest else str(rule)


def _find(name: str, beside: Path) -> Path:
    path = beside / name
    if path.is_file():
        return path
    packaged = packaged_recipes()
    if name not in packaged:
        raise RecipeError(f"no recipe {name!r}: it is neither a file nor one of {', '.join(packaged)}")
    return packaged[name]


def _read(path: Path, bases_left: int) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text())
    except (ValueError, OSError) as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    base = document.pop("base", None)
    if base is None:
        return document
    if not isinstance(base, str) or bases_left == 0:
        raise RecipeError(f"recipe {path}: base must name a recipe, at most {_MAX_BASES} deep; found {base!r}")
    return _merge(_read(_find(base, path.parent), bases_left - 1), document)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` overrides `below` key by key, but replaces network.arguments whole: they belong to one backbone."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict) and key != "arguments"
        merged[key] = _merge(below[key], value) if both else value
    return merged


def _apply(document: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set must read section.key=value; found {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # not TOML, or a number of thousands of digits
        value = text
    *sections, last = key.strip().split(".")
    for section in sections:
        if document.get(section) is None:  # not there, or an optional section that is not set
            document[section] = {}
        document = document[section]
        if not isinstance(document, dict):
            raise RecipeError(f"--set {setting}: {section} is a value, not a section")
    document[last] = value

"""The table of a recipe's keys, from the models that validate it."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from markdown_tables import table
from pydantic_core import PydanticUndefined

from sfsc_training.config import Recipe
from sfsc_training.config.sections import Section

__all__ = ["recipe_keys"]


def recipe_keys() -> str:
    """Every key with its values, default and meaning, in the order of the sections."""
    return table(["key", "values", "default", "what for"], list(_rows(Recipe, "")))


def _rows(section: type[Section], prefix: str) -> Iterator[list[str]]:
    for name, field in section.model_fields.items():
        below = next((part for part in (field.annotation, *get_args(field.annotation)) if _is_section(part)), None)
        if below is not None:
            yield from _rows(below, f"{prefix}{name}.")
            continue
        if field.default is PydanticUndefined:
            default = "required" if field.default_factory is None else "{}"
        else:
            default = "not set" if field.default is None else _toml(field.default)
        description = (field.description or "").replace("|", "\\|")
        yield [f"`{prefix}{name}`", _values(field.annotation), default, description]


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Section)


def _values(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(_values(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return "list of numbers"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "`true`, `false`", "Path": "path"}
    return names.get(getattr(annotation, "__name__", ""), "table")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{value}`"

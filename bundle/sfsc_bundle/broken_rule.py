"""The first rule that a document breaks, out of pydantic's ValidationError: where, which rule, what was found."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sfsc_bundle.described import describe_value

__all__ = ["BrokenRule", "broken_rule", "first_broken_rule"]

_FEW_ERRORS = 100
_CHARACTERS = 60
_SHOULD = re.compile(r"^\w+ should ")
_COUNTED = re.compile(r" after validation, not \d+$")
_KINDS = {
    "must be a whole number": ("int_type", "int_parsing", "int_from_float"),
    "must be a whole number of fewer digits": ("int_parsing_size",),
    "must be a number": ("float_type", "float_parsing", "complex_type"),
    "must be true or false": ("bool_type", "bool_parsing"),
    "must be a text": ("string_type", "string_sub_type", "string_unicode", "bytes_type"),
    "must be a list": ("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"),
    "must be an object": ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
    "must be a path": ("path_type",),
    "must be null": ("none_required",),
    "must be JSON": ("json_type", "json_invalid"),
    "must be a date and a time, such as 2026-01-31T12:00:00Z": (
        "datetime_type",
        "datetime_parsing",
        "datetime_from_date_parsing",
    ),
}
_RULES = {kind: rule for rule, kinds in _KINDS.items() for kind in kinds}
"""What a value has to be, where pydantic speaks of its own types and of what it tried (`details["type"]`)."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """`place`: keys and positions from the document's root, each cut to 60 characters; empty for the document."""

    place: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        """`where: rule, found …`."""
        return f"{'.'.join(self.place) or 'the document'}: {self.rule}"


def first_broken_rule(error: ValidationError) -> BrokenRule:
    """The first of the errors, whatever their number.

    pydantic builds every error of a list before the first can be read: of 500,000 in 2 s. As JSON, and without the
    values, it takes a tenth of that; so of a document with very many errors the value found is not shown.
    """
    if error.error_count() <= _FEW_ERRORS:
        return broken_rule(error.errors(include_url=False, include_context=False)[0])
    text = error.json(include_url=False, include_context=False, include_input=False)
    first, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    return broken_rule(first)


def broken_rule(details: Mapping[str, Any], ignored: Sequence[str] = ()) -> BrokenRule:
    """One entry of `ValidationError.errors()`, without the first part of its place if that is in `ignored`."""
    place = tuple(_shown(str(part)) for part in details["loc"] if not _is_branch(part))
    if place and place[0] in ignored:
        place = place[1:]
    match details["type"]:
        case "extra_forbidden":
            return BrokenRule(place, "is not a known key")
        case "missing":
            return BrokenRule(place, "is missing")
        case _:
            told = details["msg"].removeprefix("Value error, ")
            rule = _RULES.get(details["type"]) or _COUNTED.sub("", _SHOULD.sub("must ", told))
            # Of a whole section our own rules say enough.
            whole = details["type"] == "value_error" and isinstance(details.get("input"), Mapping)
            if "input" in details and "found" not in rule and not whole:
                rule += f", found {describe_value(details['input'])}"
            return BrokenRule(place, rule)


def _shown(key: str) -> str:
    """A key, cut: whoever sends an unknown one chooses its length."""
    return key[:_CHARACTERS] + ("…" if len(key) > _CHARACTERS else "")


def _is_branch(part: object) -> bool:
    """Whether pydantic names a branch of a union here, which is not in the document."""
    return part == "str" or (isinstance(part, str) and "[" in part)

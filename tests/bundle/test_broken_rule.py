"""Refused documents in one sentence: where, which rule, what was found."""

import json
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sfsc_bundle.broken_rule import BrokenRule, first_broken_rule
from sfsc_bundle.described import describe_value


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=1)] = 1
    vector: list[float] | str = ""
    name: str = ""

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 3:
            raise ValueError(f"must be short, found {len(value)} characters")
        return value


class Whole(BaseModel):
    parts: list[Part]


def broken(document: Any) -> BrokenRule:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(document)
    return first_broken_rule(caught.value)


@pytest.mark.parametrize(
    ("document", "place", "sentence"),
    [
        ([], (), "the document: must be a valid dictionary or instance of Whole, found []"),
        ({}, ("parts",), "parts: is missing"),
        ({"parts": [{}, {"size": 0}]}, ("parts", "1", "size"), "must be greater than or equal to 1, found 0"),
        ({"parts": [{"colour": 1}]}, ("parts", "0", "colour"), "parts.0.colour: is not a known key"),
        ({"parts": [{"vector": ["x"]}]}, ("parts", "0", "vector", "0"), "found 'x'"),
        ({"parts": [{"vector": 7}]}, ("parts", "0", "vector"), "found 7"),
        ({"parts": [{"name": "long"}]}, ("parts", "0", "name"), "parts.0.name: must be short, found 4 characters"),
    ],
)
def test_place_rule_and_what_was_found(document: Any, place: tuple[str, ...], sentence: str) -> None:
    found = broken(document)
    assert found.place == place
    assert str(found).endswith(sentence)


@pytest.mark.parametrize("count", [100, 101, 5000])
def test_the_first_of_many_errors_is_the_same_rule_at_the_same_place(count: int) -> None:
    found = broken({"parts": [{"size": 1}, *({"size": -n} for n in range(count))]})
    assert found.place == ("parts", "1", "size")
    assert found.rule.startswith("must be greater than or equal to 1")


def test_very_many_errors_are_told_without_what_no_json_can_hold() -> None:
    assert broken({"parts": [{"size": b"\xff"}] * 200}).place == ("parts", "0", "size")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (2**200, "an integer of 201 bits"),
        (float("nan"), "nan"),
        ("it's", '"it\'s"'),
        ("x" * 61, f"'{'x' * 60}'…"),
        (b"\xff", r"b'\xff'"),
        ({"a": 1, "b": ["x", {}]}, "{'a': 1, 'b': ['x', {}]}"),
        ({n: n for n in range(9)}, "an object of 9"),
        ({"a": "x" * 55}, "an object of 1"),
        ([1, 2], "[1, 2]"),
        ([0.5] * 9, "a list of 9"),
        ([[[[1]]]], "[[[[…]]]]"),
        (np.zeros((2, 3), np.float32), "an array of float32 [2, 3]"),
        ((1, 2), "tuple"),
    ],
)
def test_values_are_shown_short(value: object, shown: str) -> None:
    assert describe_value(value) == shown


def test_containers_are_entered_to_a_small_depth() -> None:
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    assert describe_value(deep) == "[[[[…]]]]"
    assert len(describe_value(json.loads('{"a": "' + "b" * 100_000 + '"}'))) < 100


def test_a_key_that_someone_chose_is_shown_short() -> None:
    assert str(broken({"parts": [{"z" * 1_000_000: 1}]})) == f"parts.0.{'z' * 60}…: is not a known key"

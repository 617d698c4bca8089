"""Refused documents in one sentence: where, which rule, what was found."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

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
        ([], (), "the document: must be an object, found []"),
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


class Kinds(BaseModel):
    whole: int = 0
    number: float = 0
    truth: bool = False
    text: str = ""
    many: list[int] = []
    few: Annotated[list[int], Field(max_length=2)] = []
    fewer: tuple[int, int] = (0, 0)
    one_of: Literal["a", "b"] = "a"
    names: dict[str, int] = {}
    part: Part = Part()
    path: Path = Path()
    nothing: None = None
    made: datetime = datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"whole": "many"}, "whole: must be a whole number, found 'many'"),
        ({"whole": 0.5}, "whole: must be a whole number, found 0.5"),
        ({"whole": []}, "whole: must be a whole number, found []"),
        ({"whole": "9" * 5000}, f"whole: must be a whole number of fewer digits, found '{'9' * 60}'…"),
        ({"number": "fast"}, "number: must be a number, found 'fast'"),
        ({"number": None}, "number: must be a number, found null"),
        ({"truth": "maybe"}, "truth: must be true or false, found 'maybe'"),
        ({"truth": {}}, "truth: must be true or false, found {}"),
        ({"text": 1}, "text: must be a text, found 1"),
        ({"many": "1"}, "many: must be a list, found '1'"),
        ({"few": [1, 2, 3]}, "few: must have at most 2 items, found [1, 2, 3]"),
        ({"fewer": [1, 2, 3]}, "fewer: must have at most 2 items, found [1, 2, 3]"),
        ({"one_of": "c"}, "one_of: must be 'a' or 'b', found 'c'"),
        ({"names": []}, "names: must be an object, found []"),
        ({"part": 7}, "part: must be an object, found 7"),
        ({"path": 7}, "path: must be a path, found 7"),
        ({"nothing": 7}, "nothing: must be null, found 7"),
        ({"made": "soon"}, "made: must be a date and a time, such as 2026-01-31T12:00:00Z, found 'soon'"),
    ],
)
def test_rules_are_in_words_of_the_document(document: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Kinds.model_validate(document)
    assert str(first_broken_rule(caught.value)) == sentence


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

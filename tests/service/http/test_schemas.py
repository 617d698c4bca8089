"""Wrong options make few errors, however much is wrong: each of pydantic's takes 400 bytes and 1 µs."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sfsc_service.http.schemas import CropBox, EmbeddingsBody, ListItemsOptions, SearchBody

MANY = 10_000
KEYS = {f"key{n}": n for n in range(MANY)}


@pytest.mark.parametrize(
    ("model", "members", "first"),
    [
        (EmbeddingsBody, {"model": "m", "input": [1] * MANY}, ("input", 0)),
        (EmbeddingsBody, {"model": "m", "input": ["x"], **KEYS}, ("key0",)),
        (SearchBody, {"k": 3, **KEYS}, ("key0",)),
        (SearchBody, {"crop": {"x": 0, "y": 0, "w": 1, "h": 1, **KEYS}}, ("crop", "key0")),
        (CropBox, KEYS, ("x",)),
    ],
)
def test_errors_are_few(model: type[BaseModel], members: dict[str, Any], first: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(members)
    assert caught.value.error_count() <= len(model.model_fields) + 1
    assert caught.value.errors()[0]["loc"] == first


@pytest.mark.parametrize(
    ("model", "members"),
    [
        (SearchBody, {"k": "1_0"}),
        (SearchBody, {"deadline_ms": "1_0.5"}),
        (SearchBody, {"gflops": "1_0"}),
        (SearchBody, {"min_quality": "1_0"}),
        (SearchBody, {"width": "0.2_5"}),
        (SearchBody, {"crop": "1_0,0,9,9"}),
        (ListItemsOptions, {"limit": "1_0"}),
        (EmbeddingsBody, {"model": "m", "input": ["x"], "dimensions": "1_2"}),
    ],
)
def test_a_number_is_written_without_underscores(model: type[BaseModel], members: dict[str, Any]) -> None:
    plain = {name: value.replace("_", "") if isinstance(value, str) else value for name, value in members.items()}
    model.model_validate(plain)
    with pytest.raises(ValidationError):
        model.model_validate(members)

"""Every limit of a budget is an option of every request that embeds, and is refused where nothing is embedded."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.http.query_source import budget_of, refuse_budget
from sfsc_service.http.schemas import BudgetOptions, EmbedOptions, ItemOptions, SearchOptions

LIMITS: dict[str, Any] = {
    "width": "0.5",
    "latency_ms": 20.0,
    "gflops": 1.5,
    "deadline_ms": 80.0,
    "min_quality": 60.0,
}
API = Path(__file__).parents[3] / "docs" / "api.md"


def test_options_and_budget_have_the_same_limits() -> None:
    assert {field.name for field in fields(Budget)} == set(BudgetOptions.model_fields) == set(LIMITS)


@pytest.mark.parametrize("model", [EmbedOptions, SearchOptions, ItemOptions])
def test_each_limit_reaches_the_budget_under_its_own_name(model: type[BudgetOptions]) -> None:
    assert budget_of(model(**LIMITS)) == Budget(**LIMITS)
    assert budget_of(model()) == Budget()


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_is_refused_where_nothing_is_embedded(name: str) -> None:
    options = SearchOptions(**{name: LIMITS[name]})
    with pytest.raises(Problem, match=f"^{name}: must not be set with id"):
        refuse_budget(options, "id")
    refuse_budget(options, "id", allowed=(name,))


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_is_described_in_the_documentation(name: str) -> None:
    assert f"| `{name}` |" in API.read_text()

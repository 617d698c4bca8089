"""Settings from the environment."""

import pytest

from sfsc_service.settings import Settings


@pytest.mark.parametrize("name", ["bundle", "data", "samples", "floor_width", "port"])
def test_an_empty_variable_is_as_good_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SFSC_{name.upper()}", "")
    assert getattr(Settings(), name) == Settings.model_fields[name].default


@pytest.mark.parametrize("name", ["samples", "floor_width"])
def test_unset_is_what_the_help_shows_as_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SFSC_{name.upper()}", "unset")
    assert getattr(Settings(), name) is None

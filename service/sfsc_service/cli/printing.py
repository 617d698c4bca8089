"""What the commands that print results have in common: places from the environment, JSON in place of text."""

import json
from typing import Any

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    CliToggleFlag,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sfsc_service.cli.shown import escaped

__all__ = ["PLACES", "PrintingCommand"]

PLACES = frozenset({"url", "collection", "data", "image_folder", "json"})
"""Options that the environment may give: where a command works and how it prints, never what it does."""


class _Places(EnvSettingsSource):
    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if name in PLACES}


class PrintingCommand(BaseSettings):
    """The options of every command that prints a result."""

    model_config = SettingsConfigDict(
        env_prefix="SFSC_",
        env_prefix_target="all",
        env_ignore_empty=True,
        env_parse_none_str="unset",
        extra="forbid",
        frozen=True,
    )

    as_json: CliToggleFlag[bool] = Field(
        False, validation_alias="json", description="print the result as one JSON document [flag]"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment."""
        return init_settings, _Places(settings_cls)

    def print_json(self, document: Any) -> None:
        """Print a result as JSON."""
        for line in json.dumps(document, ensure_ascii=False, indent=2).split("\n"):
            print(escaped(line))

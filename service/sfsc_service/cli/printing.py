"""What the commands that print results have in common: settings from the environment, JSON in place of text."""

import json
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, CliToggleFlag, SettingsConfigDict

from sfsc_service.cli.shown import escaped

__all__ = ["PrintingCommand"]


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

    def print_json(self, document: Any) -> None:
        """Print a result as JSON."""
        for line in json.dumps(document, ensure_ascii=False, indent=2).split("\n"):
            print(escaped(line))

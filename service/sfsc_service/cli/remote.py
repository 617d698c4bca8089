"""What the commands that call a running service have in common: its address, and JSON in the place of tables."""

import json
import sys
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, CliToggleFlag, SettingsConfigDict

from sfsc_service.client import Client
from sfsc_service.settings import setting

__all__ = ["JsonObject", "ServiceCommand", "parsed"]


def parsed(text: str | None) -> dict[str, Any] | None:
    """A JSON object as it was typed. Raises ValueError where it is none."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def _checked(text: str) -> str:
    parsed(text)
    return text


JsonObject = Annotated[str, AfterValidator(_checked)]
"""Text, because pydantic-settings would read `a=b` as an object, too."""


class ServiceCommand(BaseSettings):
    """The options of every command that calls a running service."""

    model_config = SettingsConfigDict(
        env_prefix="SFSC_",
        env_prefix_target="all",
        env_ignore_empty=True,
        env_parse_none_str="unset",
        extra="forbid",
        frozen=True,
    )

    url: str = setting(
        "http://127.0.0.1:8000", "URL", "the address of the running service", pattern=r"^https?://[^/]"
    )
    as_json: CliToggleFlag[bool] = Field(
        False, validation_alias="json", description="print the result as one JSON document [flag]"
    )

    def client(self) -> Client:
        """A client of the service; to be closed."""
        return Client(self.url)

    def print_json(self, document: Any) -> None:
        """Print a result as JSON."""
        json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")

"""`sfsc key`: make an API key."""

import sys
from typing import Annotated, ClassVar, get_args

from pydantic import AfterValidator
from pydantic_settings import BaseSettings, CliPositionalArg, PydanticBaseSettingsSource, SettingsConfigDict

from sfsc_service.http.access import KeyScope
from sfsc_service.http.keys import KeyName, file_line, make_key
from sfsc_service.settings import listed, setting

__all__ = ["Key"]


def _scopes(text: str) -> str:
    known = get_args(KeyScope)
    for scope in listed(text) or (text,):
        if scope not in known:
            raise ValueError(f"must be some of {', '.join(known)}, comma-separated, found {scope!r}")
    return text


class Key(BaseSettings):
    """Make an API key.

    Prints the line for the file of keys (SFSC_KEYS) on standard output, and on standard error the key itself,
    which is stored nowhere. A service reads the file again on SIGHUP.

    example: sfsc key camera-1 --scopes write --images-per-s 20 >> keys.toml
    """

    model_config = SettingsConfigDict(env_parse_none_str="unset", frozen=True)
    reads_variables: ClassVar[bool] = False
    """What a key allows is on the line that makes it, and in no variable that somebody once exported."""

    name: CliPositionalArg[KeyName] = setting(..., "name", "who will hold the key; the log names it")
    scopes: Annotated[str, AfterValidator(_scopes)] = setting(
        "read",
        "scopes, comma-separated",
        "what it allows: read (embed, search, look at items), write (insert, replace, remove), admin (metrics, "
        "collections, maintenance, alignment, quality)",
    )
    requests_per_s: float | None = setting(None, "requests/s", "requests a second; unset: any number", gt=0)
    images_per_s: float | None = setting(None, "images/s", "images a second; unset: any number", gt=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings names them
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but the arguments."""
        return (init_settings,)

    def run(self) -> None:
        """Make a key and print it."""
        scopes = [scope for scope in get_args(KeyScope) if scope in listed(self.scopes)]
        key, entry = make_key(scopes, self.requests_per_s, self.images_per_s)
        print(file_line(self.name, entry), flush=True)
        print(key, file=sys.stderr)

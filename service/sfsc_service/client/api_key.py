"""The API key that a client sends."""

import os

__all__ = ["key_header"]

VARIABLE = "SFSC_API_KEY"


def key_header(api_key: str | None) -> dict[str, str]:
    """The header for a key, or for the one in the environment; none without either."""
    key = os.environ.get(VARIABLE, "") if api_key is None else api_key
    return {"Authorization": f"Bearer {key}"} if key else {}

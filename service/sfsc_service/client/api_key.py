"""The API key that a client sends."""

import os

__all__ = ["key_header"]

VARIABLE = "SFSC_API_KEY"


def key_header(api_key: str | None) -> dict[bytes, bytes]:
    """The header for a key, or for the one in the environment; none without either.

    In bytes, so that what is no key of any service is sent, and refused by the service.
    """
    key = os.environ.get(VARIABLE, "") if api_key is None else api_key
    return {b"Authorization": f"Bearer {key.strip()}".encode("utf-8", "surrogateescape")} if key else {}

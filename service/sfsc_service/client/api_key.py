"""The API key that a client sends."""

import os
import re

from sfsc_service.errors import ServiceError

__all__ = ["key_header"]

VARIABLE = "SFSC_API_KEY"
NO_HEADER = re.compile(r"[\x00-\x20\x7f]")
"""What no key holds, and no header may hold or would hide."""


def key_header(api_key: str | None) -> dict[bytes, bytes]:
    """The header for a key, or for the one in the environment; none without either.

    In bytes, so that what is no key of any service is sent, and refused by the service.

    Raises:
        ServiceError: invalid_key, where it is no single word. It is not shown: it may hold a key and more.
    """
    key = (os.environ.get(VARIABLE, "") if api_key is None else api_key).strip()
    if NO_HEADER.search(key):
        name = VARIABLE if api_key is None else "api_key"
        found = f"{len(key.split())} words in {len(key.splitlines())} lines"
        raise ServiceError(
            "invalid_key", f"{name}: must be one key, without spaces and line breaks, found {found}", 0
        )
    return {b"Authorization": f"Bearer {key}".encode("utf-8", "surrogateescape")} if key else {}

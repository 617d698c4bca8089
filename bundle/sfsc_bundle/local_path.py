"""Paths on this machine. A URL is none: taken for one, s3://BUCKET/x would be a folder `s3:` here."""

import re
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator

__all__ = ["LocalPath", "local_path"]

T = TypeVar("T")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def local_path(value: T) -> T:
    """The same value. Raises ValueError where it is a URL."""
    if isinstance(value, str) and _URL.match(value):
        raise ValueError("must be on this machine, and no URL")
    return value


LocalPath = Annotated[Path, BeforeValidator(local_path)]

"""The rules for the names of images and identities in files that were written earlier, perhaps by others."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

__all__ = ["Identity", "ImageName", "check_name"]


def check_name(name: str) -> str:
    """The name, which must be that of a path below a folder. Raises ValueError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"an image must have a path below the data folder, found {name!r}")
    return name


Identity = Annotated[str, Field(min_length=1, max_length=4096)]
ImageName = Annotated[str, Field(max_length=4096), AfterValidator(check_name)]

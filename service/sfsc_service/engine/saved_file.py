"""Small JSON files in the data folder that are worth something and can be made again: a damaged one is ignored."""

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sfsc_bundle.broken_rule import first_broken_rule

__all__ = ["read_saved"]

LARGEST_BYTES = 2**20

M = TypeVar("M", bound=BaseModel)

log = logging.getLogger(__name__)


def read_saved(path: Path, model: type[M], instead: str) -> M | None:
    """What a file holds; None where it is not there, or is no `model`. Raises nothing.

    Args:
        instead: what happens without it, for the log.
    """
    try:
        if not path.exists():
            return None
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"more than {LARGEST_BYTES} bytes")
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = first_broken_rule(error) if isinstance(error, ValidationError) else error
        log.warning("ignoring %s, %s: %s", path, instead, reason)
        return None

"""Folders that another command wrote, and that are no data set."""

from pathlib import Path

from sfsc_bundle.written_by import written_by
from sfsc_training.errors import DataError

__all__ = ["check_foreign"]


def check_foreign(folder: Path) -> None:
    """Raises DataError where a folder was written by another command, and names that."""
    if (what := written_by(folder)) is not None:
        raise DataError(f"--data must be a folder of images; {folder} is {what}")

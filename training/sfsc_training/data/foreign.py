"""Folders that another command wrote, and that are no data set."""

from pathlib import Path

from sfsc_training.errors import DataError

__all__ = ["check_foreign"]

_WRITTEN_BY = (
    ("recipe.json", "labels.json", "a run folder of sfsc-train"),
    ("manifest.json", "*.onnx", "a bundle that sfsc-train exported"),
    ("database.sqlite", "lock", "the gallery of a service"),
)


def check_foreign(folder: Path) -> None:
    """Raises DataError where a folder was written by another command, and names that."""
    for name, beside, what in _WRITTEN_BY:
        if (folder / name).is_file() and any(folder.glob(beside)):
            raise DataError(f"--data must be a folder of images; {folder} is {what} ({name})")

"""Folders that a command of this project wrote, and that are no folders of images."""

from pathlib import Path

__all__ = ["written_by"]

_MARKS = (
    ("recipe.json", "labels.json", "a run folder of sfsc-train"),
    ("manifest.json", "*.onnx", "a bundle"),
    ("database.sqlite", "lock", "the data folder of a service"),
)
"""A file's name, and a pattern of what lies beside it."""


def written_by(folder: Path) -> str | None:
    """What a folder is, and the file that it is known by; None for any other folder."""
    for name, beside, what in _MARKS:
        if (folder / name).is_file() and any(folder.glob(beside)):
            return f"{what} ({name})"
    return None

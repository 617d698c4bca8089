"""The history of a run as event files, which TensorBoard shows. Needs the extra `tensorboard`."""

import shutil
from pathlib import Path

from sfsc_bundle.extras import installing
from sfsc_training.errors import TrainingError
from sfsc_training.history import read_history

__all__ = ["write_event_files"]

_BY_WIDTH = ("loss", "uncertainty", "gradient_norm")
_OF_THE_STEP = ("lr", "images_per_s", "conflicts", "validation")


def write_event_files(run: Path) -> Path:
    """Write every logged step of a run to `RUN/tensorboard`, in place of what is there; returns that folder.

    Raises:
        TrainingError: the extra `tensorboard` is not installed, or the run has logged nothing.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise TrainingError(f"event files need the extra tensorboard: {installing('tensorboard')}") from error
    steps = read_history(run, points=None)
    if not steps:
        raise TrainingError(
            f"{run} must be the folder of a run that has logged a step, found no history.jsonl in it"
        )
    folder = run / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    writer = Writer(str(folder))
    for step in steps:
        values = {name: step[name] for name in _OF_THE_STEP if name in step}
        values |= {f"{name}/{width}": value for name in _BY_WIDTH for width, value in step[name].items()}
        for name, value in values.items():
            writer.add_scalar(name, value, step["step"])
    writer.close()
    return folder

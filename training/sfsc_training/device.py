"""Where a network runs."""

from typing import Literal, assert_never

import torch

from sfsc_training.errors import TrainingError

__all__ = ["Device", "check_device"]

Device = Literal["cpu", "cuda"]


def check_device(device: Device) -> None:
    """Raises TrainingError where CUDA is asked for and torch finds no CUDA device."""
    match device:
        case "cpu":
            pass
        case "cuda":
            if not torch.cuda.is_available():
                raise TrainingError("device cuda was requested, but torch finds no CUDA device")
        case _:
            assert_never(device)

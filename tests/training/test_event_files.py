"""TensorBoard's own reader finds in the event files what the history of the run holds."""

from pathlib import Path

import pytest

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
pytest.importorskip("torch", reason="the training extra is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from typer.testing import CliRunner

from sfsc_training.cli import app
from sfsc_training.errors import TrainingError
from sfsc_training.event_files import write_event_files
from sfsc_training.history import History, StepSummary

pytestmark = pytest.mark.torch

STEPS = 120  # more than the points of a curve in a report


def write(run: Path) -> None:
    with History(run, ["0.25", "1.0"]) as history:
        for step in range(STEPS):
            summary = StepSummary({0: 2.0 + step, 1: 1.0 + step}, {0: 0.5}, {0: 3.0, 1: 4.0}, 0.25)
            history.write(step, 0.001 * step, 100.0, summary)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return {
        name: [(event.step, make_ndarray(event.tensor_proto).item()) for event in found.Tensors(name)]
        for name in found.Tags()["tensors"]
    }


def test_event_files_hold_every_logged_step_once_however_often_they_are_written(tmp_path: Path) -> None:
    write(tmp_path)
    for _ in range(2):
        done = CliRunner().invoke(app, ["tensorboard", str(tmp_path)])
        assert done.exit_code == 0, done.output
    series = read(tmp_path / "tensorboard")
    by_width = {"loss/0.25", "loss/1.0", "uncertainty/0.25", "gradient_norm/0.25", "gradient_norm/1.0"}
    assert set(series) == by_width | {"lr", "images_per_s", "conflicts"}
    assert series["loss/1.0"] == [(step, 1.0 + step) for step in range(STEPS)]
    assert series["lr"] == [(step, pytest.approx(0.001 * step)) for step in range(STEPS)]


def test_a_folder_without_a_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has logged a step"):
        write_event_files(tmp_path)
    assert not (tmp_path / "tensorboard").exists()

"""What `sfsc-train` says in its help, and how it refuses a name that is not one of a few."""

import pytest
import torch
from typer.testing import CliRunner

from sfsc_training.cli import app
from sfsc_training.errors import TrainingError

COMMANDS = ["train", "align", "adopt", "evaluate", "export", "sweep", "report", "recipes"]


def spoken(*words):
    found = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    return found.exit_code, " ".join(found.output.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command):
    code, text = spoken(command, "--help")
    assert code == 0
    assert f" {command} [OPTIONS]" in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", "the section [teacher] of the recipe says how"),
        ("sweep", "TOML list of [[run]] with recipe, seeds, settings, teacher"),
    ],
)
def test_brackets_in_help_texts_are_not_taken_for_markup(command, words):
    assert words in spoken(command, "--help")[1]


@pytest.mark.parametrize("option", ["--device", "--split"])
def test_a_name_that_is_not_one_of_a_few_is_refused(tmp_path, option):
    code, text = spoken("evaluate", str(tmp_path), "--data", str(tmp_path), option, "tpu")
    assert code == 2
    assert option in text
    assert "'tpu'" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_before_anything_is_done():
    with_device = [name for name in COMMANDS if "--device" in spoken(name, "--help")[1]]
    assert with_device == ["train", "align", "evaluate", "sweep"]
    for command in with_device:
        found = CliRunner().invoke(app, [command, "none", "--data", "none", "--device", "cuda"])
        assert isinstance(found.exception, TrainingError), command
        assert "torch finds no CUDA device" in str(found.exception)
        assert not found.output

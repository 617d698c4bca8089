"""What `sfsc-train` says in its help, and how it refuses a name that is not one of a few."""

import pytest
from typer.testing import CliRunner

from sfsc_training.cli import app

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

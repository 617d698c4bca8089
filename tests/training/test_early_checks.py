"""Mistakes that are told before torch is imported, each in the sentence that the command has for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sfsc_training.early_checks import FLAGS, check_early
from sfsc_training.errors import TrainingError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What looks like a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"data": {"vehicles": None}}))
    return folder


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train nothing --data DATA", "no recipe 'nothing'"),
        ("train photos --data DATA --set optimiser.stepz=5", "optimiser.stepz: is not a known key"),
        ("train photos --set optimiser.steps=many --data=DATA", "optimiser.steps: must be a whole number"),
        ("train photos --data nowhere", "--data nowhere does not exist"),
        ("train --from nowhere --data DATA", "nowhere is not a run folder"),
        ("train photos --compile --teacher nowhere --data DATA", "nowhere is not a run folder"),
        ("align RUN nowhere --data DATA --to x", "nowhere is not a run folder"),
        ("align RUN --data nowhere", "--data nowhere does not exist"),
        ("evaluate --raw RUN --data nowhere", "--data nowhere does not exist"),
        ("export nowhere --data DATA --to x", "nowhere is not a run folder"),
        ("adopt x.onnx --data nowhere", "--data nowhere does not exist"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, run: Path, words: str, sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        check_early(words.replace("DATA", str(tmp_path)).replace("RUN", str(run)).split())


@pytest.mark.parametrize(
    "words",
    [
        "",
        "recipes",
        "train",
        "train --help photos --data nowhere",
        "train photos --data",
        "train demo --data nowhere",
        "train photos another --data DATA",
        "train -x photos --data nowhere",
        "train photos --data DATA --out nowhere --no-align",
        "evaluate RUN --data DATA",
        "report nowhere",
    ],
)
def test_what_is_right_or_not_certain_is_left_to_the_command(tmp_path: Path, run: Path, words: str) -> None:
    check_early(words.replace("DATA", str(tmp_path)).replace("RUN", str(run)).split())


def test_nothing_of_it_imports_torch() -> None:
    code = "import sys, sfsc_training.early_checks as e; e.check_early(['train', 'photos']); "
    subprocess.run([sys.executable, "-c", f"{code}assert 'torch' not in sys.modules"], check=True)


def test_the_options_without_a_value_are_those_of_the_commands() -> None:
    from sfsc_training.cli import app

    group = typer.main.get_command(app)
    options = [one for command in group.commands.values() for one in command.params]  # type: ignore[attr-defined]
    flags = {name for one in options if getattr(one, "is_flag", False) for name in one.opts}
    assert flags | {"--help"} == FLAGS

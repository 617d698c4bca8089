"""What a comparison of two checkouts rests on: commands, the interval of a median, goals with an interval."""

import random
import subprocess
from pathlib import Path
from statistics import median

import pytest

from checkout import Checkout
from paired import interval
from result_file import Figure


def write_checkout(folder: Path, module: str, package: str = "sfsc_service") -> Checkout:
    """A working tree whose `sfsc` prints the module that it is in."""
    path = folder / "service" / package / f"{module}.py"
    path.parent.mkdir(parents=True)
    path.with_name("__init__.py").write_text("")
    path.write_text("def main():\n    print(__file__)\n")
    (folder / "pyproject.toml").write_text(
        f'[project.scripts]\nsfsc = "sfsc_service.{module}:main"\n'
        '[tool.hatch.build]\ndev-mode-dirs = ["bundle", "service"]\n'
    )
    return Checkout(folder)


def test_a_checkouts_command_runs_its_own_code(tmp_path):
    for module in ("cli", "main"):
        checkout = write_checkout(tmp_path / module, module)
        environment = {"PYTHONPATH": checkout.python_path}
        done = subprocess.run(
            checkout.command("sfsc"), env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(tmp_path / module / "service" / "sfsc_service" / f"{module}.py")


def test_code_from_elsewhere_is_refused(tmp_path):
    checkout = write_checkout(tmp_path, "cli", package="sfsc_other")
    with pytest.raises(SystemExit, match="sfsc_service must come from"):
        checkout.command("sfsc")


def test_the_interval_of_a_median_holds_it_as_often_as_it_says():
    draw = random.Random(0)
    inside = 0
    for _ in range(400):
        found = interval([draw.lognormvariate(0, 1) for _ in range(12)])
        assert found is not None
        inside += found[0] <= 1 <= found[1]  # the median of a standard log-normal distribution
    assert inside / 400 >= 0.93


def test_the_interval_is_of_measured_values_around_their_median():
    values = [1.0, 1.1, 0.9, 1.2, 0.8, 1.3, 0.7, 1.4, 0.6, 1.5]
    found = interval(values)
    assert found == (0.7, 1.4)  # the second and the ninth of ten: 97.9 %
    assert found[0] < median(values) < found[1]
    assert interval(values[:5]) is None


@pytest.mark.parametrize(
    ("value", "bounds", "met"),
    [
        (1.01, None, True),
        (1.01, (1.005, 1.015), True),
        (1.03, (0.99, 1.05), True),
        (1.03, (1.01, 1.05), False),
        (1.03, None, False),
    ],
)
def test_a_goal_may_be_met_by_the_interval(value, bounds, met):
    assert Figure("ratio", value, "×", "<= 1.02 or the interval holds 1", bounds).met is met


def test_a_plain_goal_asks_the_value_alone():
    assert Figure("saved", 2.0, "%", "> 3", (1.0, 9.0)).met is False

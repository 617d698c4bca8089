"""The arithmetic of trainings, counted by hand from the cost of one forward pass of each width."""

from pathlib import Path

import pytest
import torch

from sfsc_training.arithmetic import training_arithmetic
from sfsc_training.config import load_recipe
from sfsc_training.cost import macs
from sfsc_training.networks.build import make_family
from sfsc_training.sweep import read_sweep

WIDTHS = "widths=[0.25, 0.5, 0.75, 1.0]"
LENGTH = ("optimiser.steps=10", "optimiser.batch=8", "method=x")
IMAGES = 40


def recipe_of(small_recipe, *settings):
    return load_recipe(str(small_recipe), [WIDTHS, *LENGTH, *settings])


def forward(recipe, size=32):
    family = make_family(recipe.network, recipe.widths)
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    return [macs(family.sliced(index).eval(), image) for index in range(len(recipe.widths))]


SEPARATE = ("network.separate=true", "teacher.full=true")
AVERAGE = ("loss.soft_targets=1.0", "loss.reference=average", "optimiser.ema=0.9")
CASES = {
    (): lambda f, _: (240 * sum(f), 0),
    ("loss.soft_targets=1.0",): lambda f, _: (240 * sum(f), 0),
    ("loss.soft_targets=1.0", "loss.reference=next-wider"): lambda f, _: (240 * sum(f), 0),
    ("loss.soft_targets=1.0", "loss.reference=average", "optimiser.ema=0.9"): lambda f, _: (
        240 * sum(f),
        80 * f[3],
    ),
    ("optimiser.full_first=0.5",): lambda f, _: (120 * f[3] + 120 * sum(f), 0),
    ("optimiser.full_first=0.5", *AVERAGE): lambda f, _: (120 * f[3] + 120 * sum(f), 40 * f[3]),
    ("optimiser.sandwich=1",): lambda f, _: (240 * (f[0] + (f[1] + f[2]) / 2 + f[3]), 0),
    ("augmentation.growing=[[0.5, 0.5]]",): lambda f, half: (120 * (sum(f) + sum(half)), 0),
    ("widths=[0.5]",): lambda f, _: (240 * f[0], 0),
    (*SEPARATE, "loss.compatible=triplet"): lambda f, _: (240 * sum(f[:3]), 80 * f[3]),
    (*SEPARATE, "loss.compatible=base"): lambda f, _: (240 * sum(f[:3]), 0),
}


@pytest.mark.parametrize("settings", CASES)
def test_forward_and_backward_of_every_width_and_what_teaches(small_recipe, settings):
    recipe = recipe_of(small_recipe, *settings)
    expected = CASES[settings](forward(recipe), forward(recipe, 16))
    assert training_arithmetic(recipe, IMAGES) == pytest.approx(expected)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert sum(training_arithmetic(recipe, IMAGES, steps=0)) == 0
    assert torch.equal(before, torch.random.get_rng_state())


def test_passes_of_a_finished_teacher_are_counted(small_recipe):
    recipe = recipe_of(small_recipe, "widths=[0.5, 1.0]", "teacher.distil=1.0")
    teacher = recipe_of(small_recipe)
    costs = forward(teacher)
    found = training_arithmetic(recipe, IMAGES, teacher=teacher)
    assert found.taught == 80 * (costs[2] + costs[3]) + 80 * costs[3]  # above 0.5, and the widest for 1.0


def test_a_shorter_run_and_a_smaller_batch_take_less(small_recipe):
    recipe = recipe_of(small_recipe)
    whole = training_arithmetic(recipe, IMAGES)
    assert training_arithmetic(recipe, IMAGES, steps=5).trained == whole.trained / 2
    assert training_arithmetic(recipe, 4).trained == whole.trained / 2
    assert str(whole).endswith(" TFLOP")
    averaged = recipe_of(small_recipe, "loss.soft_targets=1.0", "loss.reference=average", "optimiser.ema=0.9")
    assert "TFLOP, " in str(training_arithmetic(averaged, IMAGES))


def test_the_sweep_of_one_training_against_two_has_equal_arithmetic():
    sweep = Path(__file__).parents[2] / "training/sweeps/one-as-good-as-two.toml"
    planned = {plan.folder: plan for plan in read_sweep(sweep) if plan.recipe.seed == 0}
    spent = {}
    for name, plan in planned.items():
        before = 0 if plan.teacher is None else spent[plan.teacher]
        spent[name] = before + sum(training_arithmetic(plan.recipe, 10_000))
    wanted = spent["one-sfsc-seed0"]
    twice = spent["two-frozen-soft-2000-seed0"]
    halves = {name for name in spent if "-half-of-two" in name}
    alone = {name for name in spent if name.startswith(("alone-0", "two-full"))}
    twos = {"two-frozen-soft-2000-seed0", "two-frozen-soft-rate-4e-3-seed0"}
    apart = twos | halves | alone
    assert {name: found / wanted for name, found in spent.items() if name not in apart} == pytest.approx(
        dict.fromkeys(spent.keys() - apart, 1.0), abs=1e-3
    )
    assert {name: spent[name] for name in halves} == pytest.approx(dict.fromkeys(halves, twice / 2), rel=1e-3)
    assert {spent[name] for name in twos} == {twice}


def test_the_long_recipe_for_photographs_is_that_for_photographs_with_more_steps():
    short, long = load_recipe("photos"), load_recipe("photos-long")
    assert (long.data, long.network, long.loss) == (short.data, short.network, short.loss)
    assert long.optimiser.steps > 3 * short.optimiser.steps
    assert long.early_stopping.every * long.early_stopping.patience >= long.optimiser.steps  # it never stops

"""The most passes over few training images (optimiser.passes)."""

import pytest

from sfsc_training.config import load_recipe
from sfsc_training.errors import RecipeError
from sfsc_training.length import with_length


@pytest.mark.parametrize(
    ("images", "batch", "steps"),
    [
        (2272, 64, 1500),  # 42 passes: as many as the recipe wants
        (1600, 64, 1500),
        (1000, 64, 938),  # 60 passes
        (170, 64, 300),  # 60 passes are 160 steps
        (40, 64, 300),  # a batch of 40
    ],
)
def test_few_images_take_fewer_steps(images, batch, steps):
    recipe = load_recipe("photos", [f"optimiser.batch={batch}", "optimiser.passes=60", "optimiser.steps=1500"])
    assert with_length(recipe, images).optimiser.steps == steps


def test_a_recipe_shorter_than_the_fewest_steps_stays_as_it_is():
    recipe = load_recipe("photos", ["optimiser.steps=20"])
    assert with_length(recipe, 170).optimiser.steps == 20
    assert with_length(load_recipe("photos", ["optimiser.passes=0.001"]), 10**6).optimiser.steps == 300


def test_without_a_limit_the_recipe_is_the_same():
    recipe = load_recipe("demo")
    assert with_length(recipe, 10) is recipe


def test_milestones_do_not_go_with_passes():
    with pytest.raises(RecipeError, match="passes needs schedule = 'cosine'"):
        load_recipe("photos", ["optimiser.schedule=step"])

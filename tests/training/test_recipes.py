"""Recipes: what is packaged is valid, what is wrong is named."""

import pytest

from sfsc_training.config import load_recipe, packaged_recipes, parse_recipe
from sfsc_training.errors import RecipeError


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_packaged_recipes_are_valid_and_named_after_their_file(name):
    assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "colour: is not a known key"),
        ({"network": {"depth": 3}}, "network.depth: is not a known key"),
        ({"optimiser": {"lr": -1}}, r"optimiser.lr: .*greater than 0, found -1"),
        ({"widths": [0.5, 0.25, 1.0]}, "must ascend"),
        ({"widths": [0.25, 0.5]}, "end at 1.0"),
        ({"widths": [0, 1.0]}, "above 0"),
        ({"name": "../up"}, "name: "),
        ({"loss": {"compatible": "cross-entropy"}}, "method sfsc is the evidential loss"),
        ({"aggregation": {"scope": "overlap"}}, "give anything else a method name of its own"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"name": "x"} | change)


def test_settings_on_the_command_line(small_recipe):
    recipe = load_recipe(
        str(small_recipe),
        ["optimiser.steps=7", "network.backbone=resnet34", "data.query='*_1.png'", "method=mine"],
    )
    assert (recipe.optimiser.steps, recipe.network.backbone, recipe.data.query) == (7, "resnet34", "*_1.png")
    assert recipe.sha256 != load_recipe(str(small_recipe)).sha256
    for setting, message in [("steps", "must read"), ("name.x=1", "is a value, not a section"), ("a.b=1", "a: ")]:
        with pytest.raises(RecipeError, match=message):
            load_recipe(str(small_recipe), [setting])


def test_a_file_that_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no recipe 'nothing'"):
        load_recipe("nothing")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RecipeError, match=r"bad.toml cannot be read"):
        load_recipe(str(tmp_path / "bad.toml"))

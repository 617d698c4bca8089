"""Recipes: what is packaged is valid, what is wrong is named."""

import math

import pytest

from sfsc_training.config import METHODS, change_recipe, load_recipe, packaged_recipes, parse_recipe
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
        ({"optimiser": {"lr": math.inf}}, r"optimiser.lr: must be .*finite.* found inf"),
        ({"optimiser": {"passes": math.inf}}, r"optimiser.passes: must be .*finite.* found inf"),
        ({"optimiser": {"steps": 10**35}}, "optimiser.steps: must be less than or equal to 10000000"),
        ({"optimiser": {"milestones": [-5]}}, "optimiser.milestones.0: must be greater than or equal to 0"),
        (
            {"loss": {"evidential": {"prior_weight": 0}}},
            "loss.evidential.prior_weight.*: .*greater than 0, found 0",
        ),
        ({"widths": [0.5, 0.25, 1.0]}, "must ascend"),
        ({"widths": [0.25, 0.5]}, "end at 1.0"),
        ({"widths": [0, 1.0]}, "above 0"),
        ({"name": "../up"}, "name: "),
        (
            {"loss": {"compatible": "cross-entropy"}},
            "method sfsc requires loss.compatible = 'evidential'; found 'cross-entropy'",
        ),
        ({"method": "bct-s", "loss": {"compatible": "base"}}, "method bct-s requires aggregation.kind = 'sum'"),
        ({"method": "unified"}, "method unified requires one_width = True; found False"),
        ({"method": "x", "teacher": {"full": True}}, r"teacher.full needs network.separate"),
        ({"optimiser": {"batch": 9, "micro_batches": 2}}, "batch must divide into micro_batches"),
        ({"sampler": {"kind": "identities", "images": 5}}, r"sampler.images must divide a batch of 96; found 5"),
        (
            {"method": "x", "loss": {"base": "arcface", "logits": "linear"}},
            "base = 'arcface' needs logits = 'cosine'",
        ),
        ({"loss": {"soft_targets": 1.0}}, r"method sfsc requires loss.soft_targets = 0.0; found 1.0"),
        ({"loss": {"class_vectors": "simplex"}}, "method sfsc requires loss.class_vectors = 'learned'"),
        ({"optimiser": {"sandwich": 1}}, "method sfsc requires optimiser.sandwich = None; found 1"),
        (
            {"method": "x", "loss": {"classifier": "separate", "compatible": "soft-targets"}},
            "need one classifier for all widths",
        ),
        (
            {"network": {"normalisation": {"mean": [0.5], "deviation": [0.5]}}},
            "normalisation must have one mean for each of the 3 image channels, found 1",
        ),
        (
            {"network": {"normalisation": {"mean": [0.5] * 3, "deviation": [0.5, 0.5, 0]}}},
            r"network.normalisation.deviation.2: .*greater than 0, found 0",
        ),
        ({"aggregation": {"scope": "overlap"}}, "set another method name for other settings"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"name": "x"} | change)


@pytest.mark.parametrize("key", ["optimiser.steps", "optimiser.lr"])
def test_a_number_of_thousands_of_digits_is_no_number(key):
    with pytest.raises(RecipeError, match=rf"--set {key}=9.*{key}: must be"):
        load_recipe("photos", [f"{key}={'9' * 5000}"])


def test_the_methods_of_the_comparison_are_packaged_and_differ_in_nothing_else():
    packaged = [load_recipe(name) for name in packaged_recipes() if name.startswith("omniglot28-")]
    assert {recipe.method for recipe in packaged} >= set(METHODS)
    for part in ("data", "optimiser", "augmentation", "sampler", "seed"):
        assert len({repr(getattr(recipe, part)) for recipe in packaged}) == 1
    assert len({recipe.sha256 for recipe in packaged}) == len(packaged)


def test_a_recipe_is_merged_over_its_base(tmp_path):
    (tmp_path / "below.toml").write_text(
        'name = "below"\n[optimiser]\nlr = 0.5\nsteps = 9\n[network]\narguments = { a = 1 }\n'
    )
    (tmp_path / "above.toml").write_text(
        'base = "below.toml"\nname = "above"\n[optimiser]\nsteps = 7\n[network]\narguments = { b = 2 }\n'
    )
    recipe = load_recipe(str(tmp_path / "above.toml"), ["seed=3"])
    assert (recipe.name, recipe.seed, recipe.optimiser.lr, recipe.optimiser.steps) == ("above", 3, 0.5, 7)
    assert recipe.network.arguments == {"b": 2}
    (tmp_path / "loop.toml").write_text('base = "loop.toml"\nname = "loop"\n')
    with pytest.raises(RecipeError, match=r"base must name a recipe, at most 4 deep"):
        load_recipe(str(tmp_path / "loop.toml"))


def test_a_digest_leaves_defaults_out():
    assert parse_recipe({"name": "x"}).sha256 == parse_recipe({"name": "x", "optimiser": {"lr": 1e-3}}).sha256
    assert parse_recipe({"name": "x"}).sha256 != parse_recipe({"name": "x", "optimiser": {"lr": 2e-3}}).sha256


def test_a_new_key_changes_no_digest():
    """Results and checkpoints are found by it."""
    recipe = parse_recipe({"name": "x", "widths": [0.5, 1.0], "loss": {"triplet": 1.0}, "optimiser": {"lr": 2e-3}})
    assert recipe.sha256 == "0a89d8be4e557e470f48b36a012632e7d71af7d581bed2b78eaebe6ab4e966b8"


def test_settings_on_the_command_line(small_recipe):
    recipe = load_recipe(
        str(small_recipe),
        ["optimiser.steps=7", "network.backbone=resnet34", "data.query='*_1.png'", "method=mine"],
    )
    assert (recipe.optimiser.steps, recipe.network.backbone, recipe.data.query) == (7, "resnet34", "*_1.png")
    assert recipe.sha256 != load_recipe(str(small_recipe)).sha256
    for setting, message in [
        ("steps", "must read"),
        ("name.x=1", "is a value, not a section"),
        ("a.b=1", "--set a.b=1: a.b: is not a known key"),
    ]:
        with pytest.raises(RecipeError, match=message):
            load_recipe(str(small_recipe), [setting])


def test_a_setting_may_open_a_section_that_is_not_set(small_recipe):
    changed = change_recipe(load_recipe(str(small_recipe)), ["early_stopping.every=7"])
    assert (changed.early_stopping.every, changed.early_stopping.patience) == (7, 5)


def test_a_file_that_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no recipe 'nothing'"):
        load_recipe("nothing")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RecipeError, match=r"bad.toml cannot be read"):
        load_recipe(str(tmp_path / "bad.toml"))

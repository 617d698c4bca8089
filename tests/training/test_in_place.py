"""Options of learning within one training: what they change in a run, what excludes what, and what resumes."""

import pytest
import torch
from rich.console import Console

from sfsc_training import loop
from sfsc_training.checkpoint import read_checkpoint
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.distributed import World
from sfsc_training.errors import RecipeError
from sfsc_training.loop import RunOptions, compute_gradients, train, update_weights
from sfsc_training.losses.contrastive import contrastive_loss
from sfsc_training.losses.distillation import soft_target_loss
from sfsc_training.passes import draw
from sfsc_training.state import make_state
from sfsc_training.step_setup import prepare_steps

QUIET = Console(quiet=True)
EXACT = (
    "method=x",
    "aggregation.kind=sum",
    "optimiser.bf16=false",
    "optimiser.float64=true",
    "optimiser.steps=10",
)
WIDTHS = ("widths=[0.25, 0.5, 1.0]", "loss.compatible=soft-targets")
CLASSES = 6


def prepared(recipe_file, *settings):
    recipe = load_recipe(str(recipe_file), [*EXACT, *settings])
    torch.manual_seed(0)
    state = make_state(recipe, CLASSES, None, "cpu")
    setup = prepare_steps(state, recipe, None, World())
    setup.train_mode()
    return setup


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.arange(12) % CLASSES


def features(setup, images):
    return [setup.state.family(images, index) for index in range(len(setup.widths))]


def loss_of(setup, step=0):
    return compute_gradients(setup, [batch(1)], step).losses


def test_each_width_learns_from_the_next_wider_one(small_recipe):
    setup = prepared(small_recipe, *WIDTHS, "loss.reference=next-wider")
    found, kappa = loss_of(setup), setup.state.classifier
    narrow, middle, full = features(setup, batch(1)[0])
    assert found[1] == pytest.approx(soft_target_loss(kappa(middle), kappa(full), 1.0).item())
    assert found[0] == pytest.approx(soft_target_loss(kappa(narrow), kappa(middle), 1.0).item())
    from_widest = loss_of(prepared(small_recipe, *WIDTHS))
    assert from_widest[0] == pytest.approx(soft_target_loss(kappa(narrow), kappa(full), 1.0).item())


def test_narrow_widths_learn_from_the_averaged_weights_through_their_class_vectors(small_recipe):
    setup = prepared(small_recipe, *WIDTHS, "loss.reference=average", "optimiser.ema=0.9")
    for step in range(3):
        compute_gradients(setup, [batch(step)], step)
        update_weights(setup, step)
    found, images = loss_of(setup, 3), batch(1)[0]
    family, kappa = setup.state.result()
    assert family is not setup.state.family
    teacher, own = kappa(family(images, 2)), features(setup, images)
    for index in (0, 1):
        assert found[index] == pytest.approx(soft_target_loss(kappa(own[index]), teacher, 1.0).item())
    assert found[0] != pytest.approx(soft_target_loss(kappa(own[0]), kappa(own[2]), 1.0).item())


def test_a_step_of_the_contrastive_term_moves_along_the_gradient_of_the_whole_loss(small_recipe):
    setup = prepared(small_recipe, WIDTHS[0], "loss.compatible=base", "loss.contrastive=2.0")
    images, target = batch(1)
    compute_gradients(setup, [(images, target)], 8)
    found = [parameter.grad.clone() for parameter in setup.shared]
    drawn = draw(setup, len(target), 8, (0, 1, 2), 0)
    assert set(drawn.tolist()) == {0, 1, 2}
    own, kappa = features(setup, images), setup.state.classifier
    whole = sum(torch.nn.functional.cross_entropy(kappa(rows), target) for rows in own)
    mixed = torch.stack([own[width][place] for place, width in enumerate(drawn.tolist())])
    whole = whole + 2.0 * contrastive_loss(mixed, target, 0.1)
    for gradient, expected in zip(found, torch.autograd.grad(whole, setup.shared), strict=True):
        assert torch.allclose(gradient, expected, atol=1e-9)
    again = draw(setup, len(target), 5, (0, 1, 2), 0)
    assert not torch.equal(drawn, again)


def test_while_the_widest_is_alone_the_others_stay_as_they_are(small_recipe):
    setup = prepared(small_recipe, *WIDTHS, "optimiser.full_first=0.2")
    private = [parameter.detach().clone() for parameter in setup.private((0, 1))]
    for step in (0, 1):
        assert set(compute_gradients(setup, [batch(step)], step).losses) == {2}
        update_weights(setup, step)
    assert all(torch.equal(*pair) for pair in zip(private, setup.private((0, 1)), strict=True))
    assert set(compute_gradients(setup, [batch(2)], 2).losses) == {0, 1, 2}


@pytest.mark.parametrize(
    "settings",
    [
        ("loss.compatible=soft-targets", "loss.reference=average", "optimiser.ema=0.9"),
        ("loss.contrastive=1.0", "optimiser.micro_batches=2", "loss.compatible=base"),
        (
            "loss.contrastive=0.5",
            "optimiser.full_first=0.4",
            "loss.compatible=soft-targets",
            "loss.divergence=alpha",
        ),
    ],
)
def test_a_run_cut_off_goes_on_to_the_same_weights(small_recipe, small_data, tmp_path, monkeypatch, settings):
    recipe = load_recipe(str(small_recipe), ["method=x", "optimiser.steps=6", *settings])
    dataset = read_folder(small_data, recipe.data, recipe.seed)

    def run(folder):
        train(recipe, dataset, folder, QUIET, RunOptions(threads=1, workers=0, checkpoint_every=3))
        return read_checkpoint(folder)

    whole, write = run(tmp_path / "whole"), loop.write_checkpoint

    def write_and_die(place, checkpoint):
        write(place, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.undo()
    assert run(tmp_path / "cut").weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("loss.reference=average", "loss.compatible=soft-targets"), "'average' needs averaged weights"),
        (("loss.reference=next-wider", "loss.compatible=base"), "reference = 'next-wider' needs soft targets"),
        (("loss.divergence=alpha",), "divergence = 'alpha' needs soft targets"),
        (("widths=[1.0]", "optimiser.full_first=0.1"), "full_first needs several widths"),
        (("widths=[1.0]", "loss.contrastive=1.0"), "contrastive needs several widths"),
        (
            ("teacher.full=true", "network.separate=true", "optimiser.full_first=0.1"),
            "full_first needs several widths, of which the widest is trained",
        ),
        (
            ("teacher.full=true", "network.separate=true", "loss.soft_targets=1.0", "loss.reference=average",
             "optimiser.ema=0.9"),
            "and no teacher.full",
        ),
        (("method=sfsc", "loss.contrastive=1.0"), "method sfsc requires loss.contrastive = 0.0"),
        (("method=sfsc", "aggregation.equal_norms=true"), "method sfsc requires aggregation.equal_norms = False"),
        (("method=sfsc", "optimiser.full_first=0.5"), "method sfsc requires optimiser.full_first = 0.0"),
    ],
)  # fmt: skip
def test_what_excludes_each_other_is_one_sentence(small_recipe, settings, message):
    with pytest.raises(RecipeError, match=message) as found:
        load_recipe(str(small_recipe), ["method=x", *settings])
    assert "\n" not in str(found.value)

"""The loop's options: averaged weights, clipping, schedules and parts of a batch."""

import pytest
import torch
from rich.console import Console

from sfsc_training.checkpoint import read_checkpoint
from sfsc_training.config import OptimiserSection, load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import CheckpointError, DivergenceError, TrainingError
from sfsc_training.loop import RunOptions, train
from sfsc_training.optimisers import learning_rate, make_optimiser
from sfsc_training.run import open_run

QUIET = Console(quiet=True)


def run(recipe_file, data, folder, *settings, **options):
    recipe = load_recipe(str(recipe_file), settings)
    dataset = read_folder(data, recipe.data, recipe.seed)
    train(recipe, dataset, folder, QUIET, RunOptions(threads=1, workers=0, **options))
    return read_checkpoint(folder)


def weights(checkpoint):
    return {**checkpoint.network, **{f"classifier.{key}": values for key, values in checkpoint.classifier.items()}}


@pytest.mark.parametrize(
    "settings",
    [
        ("optimiser.ema=0.8", "optimiser.clip_norm=1.0", "optimiser.kind=adam"),
        ("sampler={kind='identities',images=4}", "optimiser.micro_batches=2", "optimiser.kind=sgd"),
        ("method=independent", "network.separate=true", "loss.classifier=separate", "loss.compatible=base"),
    ],
)
def test_a_run_cut_off_goes_on_to_the_same_result(small_recipe, small_data, tmp_path, monkeypatch, settings):
    settings = (*settings, "optimiser.steps=6")
    whole = run(small_recipe, small_data, tmp_path / "whole", *settings)
    from sfsc_training import loop

    save = loop.write_checkpoint

    def save_and_die(folder, checkpoint):
        save(folder, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(small_recipe, small_data, tmp_path / "cut", *settings, checkpoint_every=4)
    monkeypatch.undo()
    cut = run(small_recipe, small_data, tmp_path / "cut", *settings, checkpoint_every=4)
    for one, other in zip(whole.result(), cut.result(), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.weights_sha256 == cut.weights_sha256


def test_averaged_weights_are_the_result(small_recipe, small_data, tmp_path):
    plain = run(small_recipe, small_data, tmp_path / "plain", "optimiser.steps=3")
    averaged = run(small_recipe, small_data, tmp_path / "averaged", "optimiser.steps=3", "optimiser.ema=0.5")
    assert all(torch.equal(weights(plain)[name], values) for name, values in weights(averaged).items())
    name = "embedding.weight"
    steps = [
        run(small_recipe, small_data, tmp_path / str(count), f"optimiser.steps={count}", "optimiser.schedule=step")
        for count in (1, 2)
    ]
    ema = run(
        small_recipe,
        small_data,
        tmp_path / "e",
        "optimiser.steps=2",
        "optimiser.schedule=step",
        "optimiser.ema=0.5",
    )
    expected = 0.5 * steps[0].network[name] + 0.5 * steps[1].network[name]
    assert torch.allclose(ema.result()[0][name], expected, atol=1e-6)
    assert torch.equal(open_run(tmp_path / "e").family.embedding.weight, ema.result()[0][name])


def test_schedules():
    section = OptimiserSection(
        schedule="step", milestones=(10, 20), decay=0.1, lr=1.0, warmup_steps=4, steps=30, bf16=False
    )
    rates = [learning_rate(step, section) for step in (0, 3, 4, 9, 10, 19, 20, 29)]
    assert rates == pytest.approx([0.25, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(("kind", "made"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_optimisers_decay_weights_only(kind, made):
    layer = torch.nn.Linear(3, 2)
    optimiser = make_optimiser(layer.parameters(), OptimiserSection(kind=kind, weight_decay=0.3))
    assert type(optimiser).__name__ == made
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.3, 0.0]
    assert optimiser.param_groups[0]["params"] == [layer.weight]


def test_clipping_bounds_the_step(small_recipe, small_data, tmp_path):
    settings = ("optimiser.kind=sgd", "optimiser.momentum=0", "optimiser.weight_decay=0", "optimiser.lr=1.0")
    one = ("optimiser.steps=1", "optimiser.warmup_steps=0", "optimiser.schedule=step")
    tiny = run(small_recipe, small_data, tmp_path / "tiny", *settings, *one, "optimiser.clip_norm=1e-9")
    clipped = run(small_recipe, small_data, tmp_path / "clipped", *settings, *one, "optimiser.clip_norm=0.25")
    names = [name for name in weights(tiny) if "running" not in name and "num_batches" not in name]
    moved = torch.cat([(weights(tiny)[name] - weights(clipped)[name]).reshape(-1) for name in names])
    assert moved.norm().item() == pytest.approx(0.25, rel=1e-3)


def test_an_exploding_loss_names_width_and_step(small_recipe, small_data, tmp_path):
    settings = ("loss.logits=linear", "loss.compatible=base", "method=x", "optimiser.kind=sgd", "optimiser.lr=1e5")
    with pytest.raises(
        DivergenceError, match=r"diverged: the loss of width (0.5|1.0) is [0-9e.+naif]+ at step [1-9]"
    ):
        run(small_recipe, small_data, tmp_path / "run", *settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_an_error(small_recipe, small_data, tmp_path):
    with pytest.raises(TrainingError, match="device cuda was requested, but torch finds no CUDA device"):
        run(small_recipe, small_data, tmp_path / "run", device="cuda")
    finished = tmp_path / "finished"
    run(small_recipe, small_data, finished, "optimiser.steps=1")
    with pytest.raises(TrainingError, match="device cuda was requested"):
        open_run(finished, device="cuda")


def test_a_run_starts_from_the_weights_of_another_one(small_recipe, small_data, tmp_path):
    first = run(small_recipe, small_data, tmp_path / "first", "optimiser.steps=3")
    start = f"network.start='{tmp_path / 'first'}'"
    still = (
        "optimiser.steps=1",
        "optimiser.lr=1e-12",
        "optimiser.weight_decay=0",
        "data.height=32",
        "data.width=32",
    )
    second = run(small_recipe, small_data, tmp_path / "second", start, *still)
    for name, values in weights(second).items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(values, weights(first)[name], rtol=0, atol=1e-9)
    with pytest.raises(CheckpointError, match=r"network\.start: the run in .* has another network"):
        run(small_recipe, small_data, tmp_path / "third", start, "network.dimension=7")
    with pytest.raises(CheckpointError, match=r"network\.start: .* has no checkpoint"):
        run(small_recipe, small_data, tmp_path / "fourth", f"network.start='{tmp_path}'")

"""The methods of the comparison, each trained for a few steps: what is shared, what is frozen, what is refused."""

import json

import pytest
import torch
from rich.console import Console

from sfsc_training.checkpoint import older_space, read_checkpoint
from sfsc_training.config import load_recipe
from sfsc_training.data.reader import read_folder
from sfsc_training.errors import CheckpointError, RecipeError
from sfsc_training.evaluation import embed_split
from sfsc_training.export import export
from sfsc_training.loop import RunOptions, train
from sfsc_training.run import open_run
from sfsc_training.state import make_state

QUIET = Console(quiet=True)
STEPS = ("optimiser.steps=3", "optimiser.warmup_steps=0")
JOINT = {
    "bct-s": ("loss.compatible=base", "aggregation.kind=sum"),
    "asymmetric-s": ("loss.compatible=triplet", "aggregation.kind=sum"),
    "sfsc": (),
    "sfsc-without-loss": ("loss.compatible=base",),
    "sfsc-without-projection": ("aggregation.kind=sum",),
    "in-place-distillation": ("loss.compatible=soft-targets", "aggregation.kind=sum"),
    "fixed-simplex": ("loss.class_vectors=simplex", "loss.soft_targets=1.0", "aggregation.scope=tensor"),
    "average-teaches": (
        "loss.compatible=soft-targets",
        "loss.reference=average",
        "optimiser.ema=0.5",
        "aggregation.kind=sum",
    ),
    "full-first": ("loss.compatible=soft-targets", "aggregation.kind=sum", "optimiser.full_first=0.3"),
    "next-wider": ("loss.compatible=base", "loss.soft_targets=1.0", "loss.reference=next-wider"),
    "alpha": ("loss.compatible=soft-targets", "loss.divergence=alpha", "aggregation.kind=sum"),
    "contrastive": ("loss.compatible=base", "loss.contrastive=1.0", "aggregation.kind=sum"),
    "equal-norms": ("loss.compatible=base", "aggregation.kind=sum", "aggregation.equal_norms=true"),
    "mine": ("loss.distil=1.0", "loss.cross_entropy=0.5", "aggregation.kind=upgrad", "optimiser.ema=0.9"),
}
INDEPENDENT = ("method=independent", "network.separate=true", "loss.classifier=separate", "loss.compatible=base")
BCT = (
    "method=bct",
    "network.separate=true",
    "loss.compatible=cross-entropy",
    "teacher={full=true,classifier=true}",
)
ASYMMETRIC = ("method=asymmetric", "network.separate=true", "loss.compatible=triplet", "teacher={full=true}")
COMPACT = ("method=compact", "widths=[0.5]", "teacher={classifier=true,distil=1.0}")


def run(recipe_file, data, folder, *settings, teacher=None):
    recipe = load_recipe(str(recipe_file), [*STEPS, *settings])
    dataset = read_folder(data, recipe.data, recipe.seed)
    train(recipe, dataset, folder, QUIET, RunOptions(threads=1, workers=0), teacher)
    return open_run(folder, dataset), dataset


@pytest.fixture(scope="module")
def independent(small_recipe, small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods") / "independent"
    return run(small_recipe, small_data, folder, *INDEPENDENT)


@pytest.fixture(scope="module")
def joint(small_recipe, small_data, tmp_path_factory):
    """Each joint method after three steps; without weight decay a weight moves by its gradient only."""
    place = tmp_path_factory.mktemp("joint")
    return {
        method: run(
            small_recipe, small_data, place / method, f"method={method}", "optimiser.weight_decay=0", *settings
        )
        for method, settings in JOINT.items()
    }


@pytest.mark.parametrize("method", sorted(JOINT))
def test_joint_methods_move_every_weight(joint, method):
    opened, dataset = joint[method]
    torch.manual_seed(opened.recipe.seed)
    fresh = make_state(opened.recipe, len(dataset.train.identities), None, "cpu")
    before = dict(fresh.family.named_parameters())
    trained = dict(opened.family.named_parameters())
    assert [name for name in trained if torch.equal(trained[name], before[name])] == []
    assert all(torch.isfinite(parameter).all() for parameter in trained.values())
    fixed = opened.recipe.loss.class_vectors == "simplex"
    assert torch.equal(opened.classifier.weight, fresh.classifier.weight) == fixed
    line = json.loads((opened.folder / "history.jsonl").read_text().splitlines()[-1])
    assert set(line["loss"]) == {"0.5", "1.0"}
    assert all(norm > 0 for norm in line["gradient_norm"].values())


def test_no_two_joint_methods_train_the_same_weights(joint):
    digests = {method: opened.weights_sha256 for method, (opened, _) in joint.items()}
    assert len(set(digests.values())) == len(JOINT), digests


def test_a_sandwich_leaves_the_other_widths_alone(small_recipe, small_data, tmp_path):
    settings = ("method=sandwich", "widths=[0.25, 0.5, 0.75, 1.0]", "optimiser.sandwich=1", "optimiser.steps=1")
    opened, _ = run(small_recipe, small_data, tmp_path / "run", *settings)
    line = json.loads((tmp_path / "run/history.jsonl").read_text())
    assert len(line["loss"]) == 3
    assert set(line["loss"]) == set(line["gradient_norm"]) > {"0.25", "1.0"}
    (left,) = set(opened.recipe.width_names) - set(line["loss"])
    for index, width in enumerate(opened.recipe.width_names):
        fresh = opened.family.neck.widths[index].bias == 0
        assert fresh.all() == (width == left)


def test_independent_widths_share_nothing(small_recipe, small_data, independent, tmp_path):
    alone, dataset = run(small_recipe, small_data, tmp_path / "run", "method=unified", "widths=[0.5]")
    together, _ = independent
    assert alone.recipe.width_names == ("0.5",)
    counts = [sum(p.numel() for p in family.parameters()) for family in (alone.family, together.family.members[0])]
    assert counts[0] == counts[1]
    assert together.family.shared_parameters() == []
    embedded = embed_split(together, dataset.test, QUIET).embeddings
    assert not (embedded["0.5"] == embedded["1.0"]).any()
    assert list(read_checkpoint(together.folder).classifier) == ["0.weight", "1.weight"]


@pytest.mark.parametrize("settings", [BCT, ASYMMETRIC])
def test_one_to_one_methods_keep_the_full_network(small_recipe, small_data, independent, tmp_path, settings):
    teacher, dataset = independent
    opened, _ = run(small_recipe, small_data, tmp_path / "run", *settings, teacher=teacher.folder)
    full = [embed_split(found, dataset.test, QUIET).embeddings for found in (teacher, opened)]
    assert abs(full[0]["1.0"] - full[1]["1.0"]).max() < 1e-6
    assert abs(full[0]["0.5"] - full[1]["0.5"]).max() > 1e-3
    if opened.recipe.method == "bct":
        assert torch.equal(opened.classifier.weight, teacher.classifier[1].weight)
    line = json.loads((opened.folder / "history.jsonl").read_text().splitlines()[-1])
    assert list(line["loss"]) == ["0.5"]
    assert older_space(opened.folder) == teacher.space


def test_compact_learns_the_teachers_space(small_recipe, small_data, tmp_path):
    teacher, dataset = run(small_recipe, small_data, tmp_path / "teacher", "optimiser.steps=60")
    settings = (*COMPACT, "optimiser.steps=150")
    compact, _ = run(small_recipe, small_data, tmp_path / "compact", *settings, teacher=teacher.folder)
    there = embed_split(teacher, dataset.train, QUIET).embeddings["1.0"]
    here = embed_split(compact, dataset.train, QUIET).embeddings["0.5"]
    assert (there * here).sum(axis=1).mean() > 0.5  # 0.57 and more, by processor; chance is 0
    assert torch.equal(compact.classifier.weight, teacher.classifier.weight)


def test_a_shared_family_learns_the_space_of_frozen_class_vectors(small_recipe, small_data, tmp_path):
    alone = ("method=unified", "widths=[1.0]", "optimiser.steps=60")
    teacher, dataset = run(small_recipe, small_data, tmp_path / "teacher", *alone)
    settings = ("method=frozen", "teacher={classifier=true}", "loss.soft_targets=1.0", "optimiser.steps=60")
    family, _ = run(small_recipe, small_data, tmp_path / "family", *settings, teacher=teacher.folder)
    assert torch.equal(family.classifier.weight, teacher.classifier.weight)
    assert older_space(family.folder) == teacher.space
    there = embed_split(teacher, dataset.train, QUIET).embeddings["1.0"]
    for found in embed_split(family, dataset.train, QUIET).embeddings.values():
        assert (there * found).sum(axis=1).mean() > 0.5  # 0.57 and more, by processor; chance is 0


def test_a_generation_knows_old_and_new_identities(small_recipe, small_data, tmp_path):
    old, _ = run(small_recipe, small_data, tmp_path / "old", "data.validation_share=0.5")
    settings = ("method=next", "network.backbone=resnet18", "teacher={classify=1.0}")
    new, dataset = run(small_recipe, small_data, tmp_path / "new", *settings, teacher=old.folder)
    assert len(old.labels) == 4
    assert len(new.labels) == 6
    manifest = export(new, dataset, tmp_path / "bundle", QUIET).manifest
    assert (manifest.space, manifest.compatible_with) == (new.space, (old.space,))
    assert manifest.space != old.space


def test_a_generation_pulls_towards_the_old_classifier(small_recipe, small_data, tmp_path):
    """Through the old classifier, new embeddings meet the old ones of their identity."""
    settings = ("optimiser.steps=60", "optimiser.lr=0.02", "widths=[1.0]")
    old, _ = run(small_recipe, small_data, tmp_path / "old", "data.validation_share=0.5", *settings)
    found = {}
    for name, extra in (("with", ("method=next", "teacher={classify=1.0}")), ("without", ("method=plain",))):
        teacher = old.folder if name == "with" else None
        new, dataset = run(
            small_recipe,
            small_data,
            tmp_path / name,
            *extra,
            *settings,
            "network.backbone=resnet18",
            teacher=teacher,
        )
        rows = embed_split(new, dataset.train, QUIET).embeddings["1.0"]
        there = embed_split(old, dataset.train, QUIET).embeddings["1.0"]
        same = dataset.train.classes[:, None] == dataset.train.classes[None]
        cosine = rows @ there.T
        found[name] = cosine[same].mean() - cosine[~same].mean()
    assert found["with"] > found["without"] + 0.2


def test_what_does_not_fit_the_teacher_is_refused(small_recipe, small_data, independent, tmp_path):
    teacher = independent[0].folder
    with pytest.raises(RecipeError, match="needs a finished run as its teacher; give --teacher RUN"):
        run(small_recipe, small_data, tmp_path / "run", *BCT)
    with pytest.raises(RecipeError, match=r"has no section \[teacher\] that says how to use"):
        run(small_recipe, small_data, tmp_path / "run", teacher=teacher)
    with pytest.raises(
        CheckpointError, match=r"embeddings of dimension 16; the recipe has network\.dimension = 8"
    ):
        run(small_recipe, small_data, tmp_path / "run", *BCT, "network.dimension=8", teacher=teacher)
    with pytest.raises(CheckpointError, match="classifies 6 identities"):
        run(small_recipe, small_data, tmp_path / "run", *BCT, "data.validation_share=0.5", teacher=teacher)
    with pytest.raises(CheckpointError, match="widest network differs from width 1 of this recipe"):
        run(small_recipe, small_data, tmp_path / "run", *BCT, "network.backbone=resnet18", teacher=teacher)
    run(small_recipe, small_data, tmp_path / "bct", *BCT, teacher=teacher)
    other, _ = run(small_recipe, small_data, tmp_path / "other", *INDEPENDENT, "optimiser.lr=0.02")
    with pytest.raises(CheckpointError, match="was trained with another teacher"):
        run(small_recipe, small_data, tmp_path / "bct", *BCT, teacher=other.folder)

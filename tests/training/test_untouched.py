"""The figure that a training from pretrained weights is measured against."""

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F

from sfsc_bundle.retrieval import evaluate
from sfsc_training.config import parse_recipe
from sfsc_training.data.images import load_images
from sfsc_training.data.read import read_dataset
from sfsc_training.networks.published_weights import published_weights
from sfsc_training.untouched import evaluate_untouched
from sfsc_vehicles import write_splits

NETWORK = {"backbone": "mobilenetv2_100", "dimension": 8}


@pytest.fixture
def recipe_of(tmp_path):
    sizes = {"train": 2, "test": 6, "shots": 1, "size": 64}
    write_splits(tmp_path / "vehicles", 0, **sizes, twin_share=0.0, workers=1, progress=lambda _: None)
    return lambda network: parse_recipe(
        {"name": "untouched", "data": {"height": 64, "width": 64, "validation_share": 0}, "network": network}
    )


def test_the_untouched_network_is_scored_by_its_own_features(recipe_of, tmp_path):
    recipe = recipe_of(NETWORK | {"weights": "mobilenetv2"})
    split = read_dataset(tmp_path / "vehicles", recipe.data, recipe.seed).test
    known = published_weights("mobilenetv2")
    source = timm.create_model(known.backbone)
    source.load_state_dict(known.state(), strict=False)
    source.reset_classifier(0)
    pixels = torch.from_numpy(load_images(split.paths, recipe.data)).permute(0, 3, 1, 2) / 255
    mean, deviation = (
        torch.tensor(v).view(3, 1, 1) for v in (known.normalisation.mean, known.normalisation.deviation)
    )
    with torch.inference_mode():
        rows = F.normalize(source.eval()((pixels - mean) / deviation)).numpy()
    labels = split.labels()
    wanted = evaluate(rows[split.query], labels.take(split.query), rows[split.gallery], labels.take(split.gallery))
    found = evaluate_untouched(recipe, split, "cpu")
    assert found is not None
    assert np.allclose([found["mean_ap"], found["rank1"]], [wanted.mean_ap, wanted.rank1], atol=1e-6)
    assert 0 < wanted.mean_ap < 100


def test_a_recipe_that_starts_from_nothing_has_no_such_figure(recipe_of, tmp_path):
    recipe = recipe_of(NETWORK)
    split = read_dataset(tmp_path / "vehicles", recipe.data, recipe.seed).test
    assert evaluate_untouched(recipe, split, "cpu") is None

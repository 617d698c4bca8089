"""What a family does with pretrained weights before the first step: order of channels, start of the embedding."""

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from sfsc_training.config import NetworkSection, OptimiserSection
from sfsc_training.embedding_start import passes, start_embedding
from sfsc_training.errors import DataError, NetworkError
from sfsc_training.networks.build import make_family
from sfsc_training.networks.channel_order import sort_channels
from sfsc_training.optimisers import make_optimiser

HALF = (0.5, 1.0)


def randomised(module):
    torch.manual_seed(4)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "mobilenetv2_100", "efficientnet_lite0", "efficientnet_b0"]
)
def test_sorted_channels_compute_the_same_and_matter_less_and_less(name):
    backbone = randomised(timm.create_model(name, num_classes=0))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = backbone(images)
        sort_channels(backbone)
        after = backbone(images)
    if name.startswith("resnet"):  # the last channels are tied by a residual sum
        assert torch.allclose(before, after, rtol=1e-3, atol=1e-3)
        reader = backbone.layer2[1].conv2.weight
    else:
        assert torch.allclose(before.sort(dim=1).values, after.sort(dim=1).values, rtol=1e-3, atol=1e-3)
        reader = backbone.blocks[3][1].conv_pwl.weight
    assert (reader.abs().sum(dim=(0, 2, 3)).diff() <= 1e-4).all()


def test_grouped_convolutions_are_left_and_a_network_without_known_blocks_is_refused():
    backbone = randomised(timm.create_model("resnext50_32x4d", num_classes=0))
    images = torch.randn(1, 3, 64, 64)
    with pytest.raises(NetworkError, match="ResNet or MobileNet block"):
        sort_channels(timm.create_model("convnext_atto", num_classes=0))
    with torch.no_grad():
        before = backbone(images)
        with pytest.raises(NetworkError, match="ResNet or MobileNet block"):
            sort_channels(backbone)
        assert torch.equal(before, backbone(images))


@pytest.mark.parametrize("separate", [False, True])
def test_a_principal_embedding_has_the_distances_of_the_untouched_features(separate):
    section = NetworkSection(backbone="resnet18", dimension=512, separate=separate)
    family = make_family(section, HALF).double().eval()
    images = np.random.default_rng(0).integers(0, 255, (600, 32, 32, 3), dtype=np.uint8)
    count = 0

    def advance():
        nonlocal count
        count += 1

    start_embedding(family, images, advance)
    assert count == passes(len(images)) * (2 if separate else 1)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    full = family.member(1) if separate else family
    with torch.no_grad():
        features = full.pooled(pixels)
        embedded = family(pixels, 1)
    centred = F.normalize(features - features.mean(dim=0))
    embedded = F.normalize(embedded)
    assert torch.allclose(embedded @ embedded.T, centred @ centred.T, atol=1e-3)


def test_a_principal_embedding_keeps_the_directions_of_largest_variance():
    family = make_family(NetworkSection(backbone="resnet18", dimension=4), HALF).eval()
    images = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), dtype=np.uint8)
    start_embedding(family, images, lambda: None)
    with torch.no_grad():
        features = family.pooled(torch.from_numpy(images).permute(0, 3, 1, 2))
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    projected = torch.linalg.svdvals((features - features.mean(dim=0)) @ family.embedding.weight.T)
    assert torch.allclose(values[:4], projected, rtol=1e-3)
    with pytest.raises(DataError, match="needs more than 4 images, one for each dimension; found 4"):
        start_embedding(family, images[:4], lambda: None)


def test_the_head_has_a_rate_of_its_own():
    body, head = nn.Linear(2, 2), nn.Linear(2, 2)
    optimiser = make_optimiser(body.parameters(), head.parameters(), OptimiserSection(head_lr=5.0))
    factors = {id(p): group["factor"] for group in optimiser.param_groups for p in group["params"]}
    assert [factors[id(p)] for p in (*body.parameters(), *head.parameters())] == [1.0, 1.0, 5.0, 5.0]

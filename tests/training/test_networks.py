"""The surgery: width 1 is the untouched model, a slice is the switchable network, and crops are what they say."""

from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from sfsc_bundle.manifest import Normalisation
from sfsc_bundle.runner import INPUT, OUTPUT
from sfsc_training.config import NetworkSection
from sfsc_training.cost import macs
from sfsc_training.errors import NetworkError
from sfsc_training.export import Servable, to_onnx
from sfsc_training.networks.backbone import first_convolution
from sfsc_training.networks.build import check_widths, make_family
from sfsc_training.networks.layers import Switch, slice_at
from sfsc_training.networks.normalise import default_normalisation, normalisation_of_weights
from sfsc_training.networks.surgery import make_switchable

RATIOS = (0.25, 0.5, 0.75, 1.0)
HALF = (0.5, 1.0)
BACKBONES = {
    "resnet18": RATIOS,  # basic blocks
    "resnet34": HALF,
    "resnet50": RATIOS,  # bottlenecks
    "resnext50_32x4d": RATIOS,  # grouped convolutions
    "mobilenetv2_100": RATIOS,  # depthwise convolutions, norms that carry the activation
    "efficientnet_b0": RATIOS,  # squeeze and excite
    "convnext_atto": RATIOS,  # layer normalisation, bare parameters
    "regnetx_004": HALF,  # groups of 16 channels
    "mobilenetv3_small_050": HALF,  # a layer between pool and classifier
}


def randomised(module):
    """Statistics and affine parameters as after training, so that a lost one shows."""
    torch.manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
        elif isinstance(layer, nn.LayerNorm) or "gamma" in layer._parameters:
            for values in layer._parameters.values():
                nn.init.normal_(values, 0.5, 0.2)
    return module.eval()


def relative(found, expected):
    return (found - expected).abs().max() / expected.abs().max()


@pytest.mark.parametrize("name", BACKBONES)
def test_width_one_is_the_untouched_timm_model(name):
    untouched = randomised(timm.create_model(name, num_classes=0))
    images = torch.randn(2, 3, 64, 64)
    first = first_convolution(untouched, 3)
    with torch.no_grad():
        expected = untouched(images)
        switch = Switch(len(BACKBONES[name]) - 1)
        switchable = make_switchable(untouched, BACKBONES[name], switch, whole_inputs=[first])
        assert relative(switchable(images), expected) <= 1e-5


@pytest.mark.parametrize("name", BACKBONES)
def test_a_slice_is_the_switchable_network(name):
    ratios = BACKBONES[name]
    family = randomised(make_family(NetworkSection(backbone=name, dimension=24), ratios))
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    parameters, cost = [], []
    with torch.no_grad():
        for index in range(len(ratios)):
            plain = family.sliced(index)
            embedded = plain(images)
            assert embedded.shape == (2, 24)
            assert relative(embedded, family(images, index)) <= 1e-5
            assert not any("Switch" in type(module).__name__ for module in plain.modules())
            parameters.append(sum(parameter.numel() for parameter in plain.parameters()))
            cost.append(macs(plain, images[:1]))
    for found, tolerance in ((parameters, 1.3), (cost, 2.5)):
        # Nearly the square of the width; the stem, the embedding and depthwise layers fall with the width alone.
        for count, ratio in zip(found, ratios, strict=True):
            assert count <= tolerance * ratio**2 * found[-1] if ratio < 1 else count == max(found)
        assert found == sorted(set(found))


@pytest.mark.parametrize("name", ["resnext50_32x4d", "efficientnet_b0", "convnext_atto"])
def test_gradients_stay_inside_what_a_width_reaches(name):
    family = randomised(make_family(NetworkSection(backbone=name, dimension=8), HALF))
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    shared = family.shared_parameters()
    gradients = torch.autograd.grad(family(images, 0).sum(), shared, materialize_grads=True)
    touched = torch.cat([gradient.reshape(-1) for gradient in gradients]) != 0
    reached = family.reached(0)
    assert not (touched & ~reached).any()
    assert touched.sum() > 0.3 * reached.sum()
    assert family.reached(1).all()
    private = [id(parameter) for index in (0, 1) for parameter in family.private_parameters(index)]
    assert sorted(private + [id(p) for p in shared]) == sorted(id(p) for p in family.parameters())


_SLOW = pytest.mark.slow  # the layers of these are those of the quick ones; conversion takes its time
ONNX = [
    *("mobilenetv2_100", "mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "regnetx_004"),
    *(pytest.param(name, marks=_SLOW) for name in ("resnet18", "resnet34", "resnet50", "resnext50_32x4d")),
]


@pytest.mark.parametrize("name", ONNX)
def test_onnx_is_the_slice(name):
    family = randomised(make_family(NetworkSection(backbone=name, dimension=24), HALF))
    images = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    servable = Servable(family.sliced(0)).eval()
    session = onnxruntime.InferenceSession(to_onnx(servable, images[:2]), providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    with torch.no_grad():
        assert (torch.from_numpy(found) * servable(images)).sum(dim=1).min() >= 0.9999


def test_a_bare_parameter_shrinks_with_its_module():
    family = randomised(make_family(NetworkSection(backbone="convnext_atto", dimension=8), HALF))
    full = family.backbone.stages[0].blocks[0].switched.gamma
    narrow = family.sliced(0)[1].stages[0].blocks[0].gamma
    assert torch.equal(narrow, full[:20])
    assert isinstance(narrow, nn.Parameter)


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


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("resnet18", None),  # ImageNet's mean and deviation
        ("test_resnet", None),  # 0.5 and 0.5
        ("test_resnet", Normalisation(mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.25, 0.3))),
    ],
)
def test_width_one_of_pretrained_weights_is_the_untouched_network_with_its_own_normalisation(
    name, given, tmp_path
):
    source = randomised(timm.create_model(name, num_classes=5))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    section = NetworkSection(
        backbone=name, weights_file=tmp_path / "weights.pth", dimension=8, normalisation=given
    )
    family = make_family(section, HALF).eval()
    source.reset_classifier(0)
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    mean, deviation = source.pretrained_cfg["mean"], source.pretrained_cfg["std"]
    if given is not None:
        mean, deviation = given.mean, given.deviation
    pixels = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    with torch.no_grad():
        expected = source(pixels)
        assert relative(family.backbone(family.normalise(images)), expected) <= 1e-5
        assert relative(family.sliced(1)[:2](images), expected) <= 1e-5
    assert family.normalisation == Normalisation(mean=mean, deviation=deviation)


class Harmful:
    """What would leave a file behind if it were unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_weights_file_runs_nothing(tmp_path):
    torch.save({"conv1.weight": Harmful(tmp_path / "trace")}, tmp_path / "weights.pth")
    with pytest.raises(NetworkError, match="cannot be read: it must be a state dict"):
        make_family(NetworkSection(backbone="resnet18", weights_file=tmp_path / "weights.pth"), RATIOS)
    assert not (tmp_path / "trace").exists()


def test_one_channel_of_pretrained_weights_has_the_mean_of_theirs(tmp_path):
    source = timm.create_model("resnet18", num_classes=5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    section = NetworkSection(backbone="resnet18", weights_file=tmp_path / "weights.pth", image_channels=1)
    found = make_family(section, HALF).normalisation
    assert found.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert found.deviation == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))


@pytest.mark.parametrize("known", [None, {}, {"mean": (0.5, 0.5, 0.5)}])
def test_weights_without_a_configuration_have_the_normalisation_of_imagenet(known):
    backbone = nn.Linear(1, 1)
    backbone.pretrained_cfg = known
    assert normalisation_of_weights(backbone, 3) == default_normalisation(3)


def test_pretrained_weights_and_one_image_channel(tmp_path):
    source = timm.create_model("resnet18", num_classes=5)
    file = tmp_path / "weights.pth"
    torch.save(source.state_dict(), file)
    family = make_family(NetworkSection(backbone="resnet18", weights_file=file, image_channels=1), RATIOS)
    assert torch.allclose(family.backbone.conv1.weight, source.conv1.weight.sum(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "convnext_atto", "regnetx_004"])
def test_pretrained_weights_of_other_backbones_and_one_image_channel(name, tmp_path):
    source = timm.create_model(name, num_classes=5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    section = NetworkSection(backbone=name, weights_file=tmp_path / "weights.pth", image_channels=1, dimension=8)
    family = make_family(section, HALF).eval()
    first = first_convolution(source, 3)
    weights = family.backbone.get_submodule(first).weight
    assert torch.allclose(weights, source.get_submodule(first).weight.sum(dim=1, keepdim=True), atol=1e-5)
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    assert all(family(images, index).shape == (2, 8) for index in range(len(HALF)))


def test_luma_inside_the_network():
    family = make_family(NetworkSection(image_channels=1, dimension=8), RATIOS).eval()
    grey = torch.randint(0, 255, (1, 1, 32, 32), dtype=torch.uint8)
    scaled = family.normalise(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(scaled, (grey / 255.0 - 0.5) / 0.5, atol=1e-5)


class _OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Parameter(torch.ones(1, 4))


@pytest.mark.parametrize(
    ("module", "ratios", "message"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 1)), (0.1, 1.0), r"layer 0: width 0.1 leaves none of its 4 channels"),
        (nn.Sequential(nn.Conv2d(8, 8, 1, groups=2)), (0.25, 1.0), r"layer 0: width 0.25 .* not whole groups"),
        (nn.Sequential(nn.GroupNorm(2, 4)), (0.5, 1.0), r"layer 0 \(GroupNorm\) has parameters"),
        (nn.Sequential(nn.LayerNorm((4, 4))), (0.5, 1.0), r"layer 0: layer normalisation over \(4, 4\)"),
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
        (NetworkSection(backbone="resnot18"), "resnot18.* cannot be built"),
        (NetworkSection(backbone="resnet18", arguments={"colour": 1}), "cannot be built"),
        (
            NetworkSection(backbone="mobilenetv2_100", stem="3x3"),
            "replaces the stem of a plain ResNet; mobilenetv2_100 has none",
        ),
        (
            NetworkSection(backbone="resnet18", weights="mobilenetv2"),
            "'mobilenetv2' are of the backbone 'mobilenetv2_100'; found network.backbone 'resnet18'",
        ),
        (NetworkSection(weights_file="nowhere.pth"), "network.weights_file nowhere.pth does not exist"),
        (NetworkSection(weights_file=__file__), "network.weights_file .* cannot be read: it must be a state dict"),
    ],
)
def test_a_backbone_that_cannot_be_made_is_named(section, message):
    with pytest.raises(NetworkError, match=message):
        make_family(section, RATIOS)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("res2net50_26w_4s", 64, r"does not run at width 0.5 on images of 64 x 64: Given groups=1"),
        ("vgg11", 16, r"does not run at width 0.5 on images of 16 x 16: "),
    ],
)
def test_a_width_that_does_not_run_is_named(name, size, message):
    family = make_family(NetworkSection(backbone=name, dimension=8), HALF)
    with pytest.raises(NetworkError, match=message):
        check_widths(family, HALF, size, size)


def test_the_check_of_the_widths_changes_nothing():
    family = make_family(NetworkSection(backbone="resnet18", dimension=8), RATIOS)
    before = {key: value.clone() for key, value in family.state_dict().items()}
    generator = torch.get_rng_state()
    check_widths(family, RATIOS, 32, 64)
    assert all(torch.equal(before[key], value) for key, value in family.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert family.training

"""The switchable network of a recipe (docs/method.md §1).

images → normalised pixels → switchable backbone → pooled feature → embedding: linear, cropped input, full output D
→ neck: a private BatchNorm1d per width
"""

from collections.abc import Sequence

from torch import Tensor, nn

from sfsc_bundle.manifest import Normalisation
from sfsc_training.config import NetworkSection
from sfsc_training.networks.backbone import first_convolution, make_backbone, pooled_features
from sfsc_training.networks.family import Family
from sfsc_training.networks.layers import Switch, SwitchableNorm, SwitchableWeights, slice_at
from sfsc_training.networks.normalise import Normalise, default_normalisation, normalisation_of_weights
from sfsc_training.networks.surgery import make_switchable

__all__ = ["Switchable", "make_switchable_family"]


class Switchable(Family):
    """A family of sub-models that share one set of weights, but for their normalisation."""

    def __init__(
        self, normalise: Normalise, backbone: nn.Module, embedding: nn.Module, neck: nn.Module, switch: Switch
    ) -> None:
        super().__init__()
        self.normalise, self.backbone, self.embedding, self.neck = normalise, backbone, embedding, neck
        self._switch, self._full = switch, switch.index

    def forward(self, images: Tensor, index: int) -> Tensor:
        """Embed at one width: uint8 RGB [n, 3, H, W] → [n, D], not yet of unit length."""
        self._switch.index = index
        features: Tensor = self.neck(self.embedding(self.backbone(self.normalise(images))))
        return features

    def pooled(self, images: Tensor) -> Tensor:
        """What the embedding is made of, at full width: uint8 RGB [n, 3, H, W] → [n, channels]."""
        self._switch.index = self._full
        features: Tensor = self.backbone(self.normalise(images))
        return features

    @property
    def widths(self) -> int:
        return self._full + 1

    def sliced(self, index: int) -> nn.Sequential:
        parts = (self.normalise, self.backbone, self.embedding, self.neck)
        return nn.Sequential(*(slice_at(part, index) for part in parts))

    def private_parameters(self, index: int) -> list[nn.Parameter]:
        norms = (module for module in self.modules() if isinstance(module, SwitchableNorm))
        return [parameter for norm in norms for parameter in norm.widths[index].parameters()]

    def leading(self, index: int) -> list[Tensor]:
        layers = (module for module in self.modules() if isinstance(module, SwitchableWeights))
        parts = {id(parameter): part for layer in layers for parameter, part in layer.leading(index)}
        return [parts[id(parameter)] for parameter in self.shared_parameters()]

    def shared_parameters(self) -> list[nn.Parameter]:
        private = {
            id(parameter)
            for module in self.modules()
            if isinstance(module, SwitchableNorm)
            for parameter in module.parameters()
        }
        return [parameter for parameter in self.parameters() if id(parameter) not in private]


def make_switchable_family(section: NetworkSection, ratios: Sequence[float]) -> Switchable:
    """Build the switchable network of a recipe. Raises NetworkError."""
    backbone = make_backbone(section)
    switch = Switch(len(ratios) - 1)
    features = pooled_features(backbone)
    first = first_convolution(backbone, section.image_channels)
    embedding = nn.Linear(features, section.dimension, bias=False)
    nn.init.kaiming_normal_(embedding.weight, mode="fan_out")
    neck = nn.BatchNorm1d(section.dimension)
    return Switchable(
        Normalise(_normalisation(section, backbone)),
        make_switchable(backbone, ratios, switch, whole_inputs=[first]),
        make_switchable(embedding, ratios, switch, whole_outputs=[""]),
        SwitchableNorm(neck, [section.dimension] * len(ratios), switch),
        switch,
    )


def _normalisation(section: NetworkSection, backbone: nn.Module) -> Normalisation:
    if section.normalisation is not None:
        return section.normalisation
    if section.from_weights:
        return normalisation_of_weights(backbone, section.image_channels)
    return default_normalisation(section.image_channels)

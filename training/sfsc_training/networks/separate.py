"""A separate network for each width: for the control `independent` and the one-to-one methods."""

from collections.abc import Sequence

from torch import Tensor, nn

from sfsc_training.networks.family import Family

__all__ = ["Separate"]


class Separate(Family):
    """A family without shared weights: width i is member i."""

    def __init__(self, members: Sequence[Family]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor, index: int) -> Tensor:
        """Embed at one width: uint8 RGB [n, 3, H, W] → [n, D], not yet of unit length."""
        features: Tensor = self.members[index](images, 0)
        return features

    def member(self, index: int) -> Family:
        """The network of one width, itself a family of one."""
        found = self.members[index]
        assert isinstance(found, Family)
        return found

    @property
    def widths(self) -> int:
        return len(self.members)

    def sliced(self, index: int) -> nn.Sequential:
        return self.member(index).sliced(0)

    def private_parameters(self, index: int) -> list[nn.Parameter]:
        return list(self.members[index].parameters())

    def leading(self, index: int) -> list[Tensor]:  # noqa: ARG002
        return []

    def shared_parameters(self) -> list[nn.Parameter]:
        return []

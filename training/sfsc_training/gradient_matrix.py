"""The gradients of all widths over the shared parameters, in one matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["GradientMatrix"]


class GradientMatrix:
    """`values` [m, P]: one row per width, P the number of shared weights. Outside a width's crop a row stays zero.

    Args:
        parameters: the shared parameters, P numbers together.
        leading: for each width, the leading part of each shared parameter that the width uses.
        like: a tensor of the wanted device and type.
    """

    def __init__(self, parameters: Sequence[Tensor], leading: Sequence[Sequence[Tensor]], like: Tensor) -> None:
        self._sizes = [parameter.numel() for parameter in parameters]
        self.values = like.new_zeros(len(leading), sum(self._sizes))
        # Views into the rows, in the shape of what each width uses: a gradient is written straight to its place.
        self._crops = [
            [
                piece.view_as(whole)[tuple(slice(length) for length in part.shape)]
                for piece, whole, part in zip(torch.split(row, self._sizes), parameters, parts, strict=True)
            ]
            for row, parts in zip(self.values, leading, strict=True)
        ]

    def put(self, row: int, gradients: list[Tensor], *, add: bool) -> None:
        """Write one width's gradients, each in the shape of the leading part it uses, or add them to its row."""
        if gradients and add:
            torch._foreach_add_(self._crops[row], gradients)
        elif gradients:
            torch._foreach_copy_(self._crops[row], gradients)

    def split(self, vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """A vector [P] as one view per shared parameter, in its shape."""
        pieces = zip(torch.split(vector, self._sizes), parameters, strict=True)
        return [piece.view_as(parameter) for piece, parameter in pieces]

"""Where the gradients of the widths over the shared parameters are gathered."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Rows"]


class Rows:
    """`values` [m, P]: a row for each width. Outside a width's crop it is zero and never written.

    Args:
        parameters: the shared parameters, P numbers together.
        parts: for each width, the leading part of each of them that it uses.
    """

    def __init__(self, parameters: Sequence[Tensor], parts: Sequence[Sequence[Tensor]], like: Tensor) -> None:
        self._sizes = [parameter.numel() for parameter in parameters]
        self.values = like.new_zeros(len(parts), sum(self._sizes))
        self._places = [
            [
                piece.view_as(whole)[tuple(slice(length) for length in part.shape)]
                for piece, whole, part in zip(torch.split(row, self._sizes), parameters, used, strict=True)
            ]
            for row, used in zip(self.values, parts, strict=True)
        ]

    def put(self, row: int, gradients: list[Tensor], *, add: bool) -> None:
        """Write, or add, one width's gradients of its parts."""
        if gradients and add:
            torch._foreach_add_(self._places[row], gradients)
        elif gradients:
            torch._foreach_copy_(self._places[row], gradients)

    def split(self, update: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """An update [P] as views of the parameters' shapes."""
        pieces = zip(torch.split(update, self._sizes), parameters, strict=True)
        return [piece.view_as(parameter) for piece, parameter in pieces]

"""The gradient of a depthwise convolution's weight on small maps, where oneDNN takes most of a training step.

oneDNN's kernel for it is made for maps larger than the filter. EfficientNet's last stages have 5 × 5 filters on
maps of 2 × 2 to 4 × 4, and there, without AVX-512, it takes up to a hundred times as long as the forward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["depthwise", "is_slow_in_onednn"]

Pair = tuple[int, ...]
"""Of rows and of columns."""


def is_slow_in_onednn(x: Tensor, weight: Tensor, groups: int, dilation: Pair) -> bool:
    """Whether `depthwise` is the faster one: a filter larger than the map, in float32 on a CPU.

    Args:
        x: [n, channels, h, w].
        weight: [channels, channels / groups, rows, columns].
    """
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and groups == x.shape[1] == weight.shape[0]
        and (weight.shape[2] > x.shape[2] or weight.shape[3] > x.shape[3])
        and tuple(dilation) == (1, 1)
        and weight.requires_grad
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """`F.conv2d` with a group per channel: [n, channels, h, w] → [n, channels, h', w']."""
    result: Tensor = _Depthwise.apply(x, weight, bias, stride, padding)
    return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            sizes = ctx.stride, ctx.padding, (1, 1), False, (0, 0), len(weight)
            found = torch.ops.aten.convolution_backward(gradient, x, weight, None, *sizes, (True, False, False))
            by_x = found[0]
        if ctx.needs_input_grad[1]:
            by_weight = _by_weight(x, gradient, weight.shape[2:], ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            by_bias = gradient.sum((0, 2, 3))
        return by_x, by_weight, by_bias, None, None


def _by_weight(x: Tensor, gradient: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Each place of the filter by itself: the sum of (input under it × gradient), over what is not padding."""
    rows = [_overlap(place, x.shape[2], gradient.shape[2], stride[0], padding[0]) for place in range(kernel[0])]
    columns = [_overlap(place, x.shape[3], gradient.shape[3], stride[1], padding[1]) for place in range(kernel[1])]
    result = x.new_zeros(*kernel, x.shape[1])
    for row, (x_rows, rows_of_gradient) in enumerate(rows):
        for column, (x_columns, columns_of_gradient) in enumerate(columns):
            under = x[:, :, x_rows, x_columns]
            if under.numel():
                product = under * gradient[:, :, rows_of_gradient, columns_of_gradient]
                result[row, column] = product.sum((0, 2, 3))
    return result.permute(2, 0, 1).unsqueeze(1)


def _overlap(place: int, size: int, outputs: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Which inputs lie under a place of the filter, and for which outputs, along one dimension."""
    shift = place - padding  # output o has input o · stride + shift under it
    first = max(0, -(shift // stride))
    last = min(outputs, (size - 1 - shift) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    return slice(first * stride + shift, (last - 1) * stride + shift + 1, stride), slice(first, last)

"""The gradient of small depthwise convolutions against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sfsc_training.networks.depthwise import depthwise, is_slow_in_onednn
from sfsc_training.networks.layers import Crop, Switch, SwitchableConv2d


@settings(deadline=None)  # the first call starts threads
@given(
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 5)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(0, 3)] * 2),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_agrees_with_torch(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    with_bias: bool,
    seed: int,
) -> None:
    if any(s + 2 * p < k for s, p, k in zip(size, padding, kernel, strict=True)):
        return
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = [draw(3, 2, *size), draw(2, 1, *kernel), *([draw(2)] if with_bias else [])]
    bias = inputs[2] if with_bias else None
    ours = depthwise(inputs[0], inputs[1], bias, stride, padding)
    theirs = F.conv2d(inputs[0], inputs[1], bias, stride, padding, 1, 2)
    weights = torch.randn(theirs.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs)
    found, expected = (torch.autograd.grad((y * weights).sum(), inputs) for y in (ours, theirs))
    for mine, right in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize(
    ("size", "kernel", "groups", "dtype", "expected"),
    [
        (2, 5, 4, torch.float32, True),
        (4, 5, 4, torch.float32, True),
        (5, 5, 4, torch.float32, False),  # oneDNN is the faster one from here
        (2, 3, 4, torch.float32, True),
        (2, 5, 1, torch.float32, False),
        (2, 5, 2, torch.float32, False),
        (2, 5, 4, torch.bfloat16, False),
    ],
)
def test_which_are_slow(size: int, kernel: int, groups: int, dtype: torch.dtype, expected: bool) -> None:
    x = torch.zeros(1, 4, size, size, dtype=dtype)
    weight = torch.zeros(4, 4 // groups, kernel, kernel, dtype=dtype, requires_grad=True)
    assert is_slow_in_onednn(x, weight, groups, (1, 1)) is expected
    assert not is_slow_in_onednn(x, weight, groups, (2, 2))
    assert not is_slow_in_onednn(x, weight.detach(), groups, (1, 1))


def test_a_switchable_layer_takes_it_at_every_width() -> None:
    torch.manual_seed(0)
    full = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    switch = Switch(0)
    layer = SwitchableConv2d(full, [Crop(count, count, count) for count in (2, 8)], switch)
    for index, count in enumerate((2, 8)):
        switch.index = index
        x = torch.randn(4, count, 2, 2)
        layer.weight.grad = None
        y = layer(x)
        assert "Depthwise" in type(y.grad_fn).__name__
        y.square().sum().backward()
        plain = full.weight.detach()[:count].clone().requires_grad_()
        F.conv2d(x, plain, None, 1, 2, 1, count).square().sum().backward()
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad[:count], plain.grad)
        assert not layer.weight.grad[count:].any()

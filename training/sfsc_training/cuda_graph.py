"""Replay the forward and backward passes of a step as a CUDA graph.

A step of a small network at several widths is thousands of short kernels, and a GPU waits for their launches more
than it computes. A graph launches them all at once; it computes the same.
"""

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["StepGraphs"]

T = TypeVar("T")

_EAGER = 3  # steps before a capture, in which libraries choose their kernels and allocate what they keep
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Captured(Generic[T]):
    """A graph with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    result: T
    gradients: Mapping[nn.Parameter, Tensor | None]


class StepGraphs(Generic[T]):
    """One graph for each shape of the inputs and each `key`.

    Args:
        parameters: those whose `.grad` the passes set; after a replay they have it again.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._captured: dict[Hashable, _Captured[T]] = {}
        self._runs: dict[Hashable, int] = {}
        self._possible = True

    def run(self, passes: Callable[..., T], inputs: tuple[Tensor, ...], key: Hashable) -> T:
        """`passes(*inputs)`, which must read no other values that change, but in place; at first without a graph.

        The tensors of the result are overwritten by the next run with the same shapes and key. Passes that cannot
        be captured, because they wait for the device, run without a graph ever after.
        """
        place = (key, *(values.shape for values in inputs))
        captured = self._captured.get(place)
        if captured is None:
            self._runs[place] = self._runs.get(place, 0) + 1
            if not self._possible or self._runs[place] <= _EAGER:
                return passes(*inputs)
            captured = self._capture(passes, inputs)
            if captured is None:
                return passes(*inputs)
            self._captured[place] = captured
        for own, values in zip(captured.inputs, inputs, strict=True):
            own.copy_(values)
        captured.graph.replay()
        for parameter, gradient in captured.gradients.items():
            parameter.grad = gradient
        return captured.result

    def _capture(self, passes: Callable[..., T], inputs: tuple[Tensor, ...]) -> _Captured[T] | None:
        own = tuple(values.clone() for values in inputs)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = passes(*own)
        except RuntimeError as error:
            self._possible = False
            reason = str(error).partition("\n")[0]
            _log.warning("the step runs without a CUDA graph, because it cannot be captured: %s", reason)
            return None
        return _Captured(graph, own, result, {p: p.grad for p in self._parameters})

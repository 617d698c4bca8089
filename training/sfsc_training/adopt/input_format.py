"""What a foreign graph wants as its input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from sfsc_bundle.manifest import Normalisation

__all__ = ["ChannelOrder", "InputFormat", "Layout", "Size", "parse_layout", "parse_order", "parse_size"]

Name = TypeVar("Name", bound=str)
Layout = Literal["nchw", "nhwc"]
ChannelOrder = Literal["rgb", "bgr"]
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, slots=True)
class InputFormat:
    """What a network takes.

    `element`: ONNX's number of the type. `normalisation`: of red, green and blue; None: it takes pixels as is.
    """

    layout: Layout
    order: ChannelOrder
    size: Size
    element: int
    normalisation: Normalisation | None

    def __str__(self) -> str:
        height, width = self.size
        scaled = (
            "as they are"
            if self.normalisation is None
            else f"less {_text(self.normalisation.mean)}, divided by {_text(self.normalisation.deviation)}"
        )
        return f"{self.order.upper()} of {height}x{width} as {self.layout}, pixels {scaled}"


def parse_layout(text: str) -> Layout:
    """Raises ValueError."""
    return _one_of(text, get_args(Layout))


def parse_order(text: str) -> ChannelOrder:
    """Raises ValueError."""
    return _one_of(text, get_args(ChannelOrder))


def parse_size(text: str) -> Size:
    """`224` or `256x128`, height first. Raises ValueError."""
    height, _, width = text.partition("x")
    found = int(height), int(width or height)
    if min(found) < 1:
        raise ValueError(f"a size must be above 0, found {text}")
    return found


def _one_of(text: str, known: tuple[Name, ...]) -> Name:
    for name in known:
        if name == text:
            return name
    raise ValueError(f"it must be {' or '.join(known)}")


def _text(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)

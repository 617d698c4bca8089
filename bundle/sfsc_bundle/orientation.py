"""EXIF orientation: how the pixels of a file lie in the upright image. Sizes are (width, height)."""

from typing import NamedTuple

from PIL import Image

__all__ = ["place_in_file", "swaps_sides", "turn_upright", "upright_size"]


class _Turn(NamedTuple):
    """`operation` makes the file's pixels upright; the flags say how a point of the upright image goes back."""

    operation: Image.Transpose
    swaps: bool
    from_right: bool
    from_bottom: bool


_TURNS = {
    2: _Turn(Image.Transpose.FLIP_LEFT_RIGHT, swaps=False, from_right=True, from_bottom=False),
    3: _Turn(Image.Transpose.ROTATE_180, swaps=False, from_right=True, from_bottom=True),
    4: _Turn(Image.Transpose.FLIP_TOP_BOTTOM, swaps=False, from_right=False, from_bottom=True),
    5: _Turn(Image.Transpose.TRANSPOSE, swaps=True, from_right=False, from_bottom=False),
    6: _Turn(Image.Transpose.ROTATE_270, swaps=True, from_right=True, from_bottom=False),
    7: _Turn(Image.Transpose.TRANSVERSE, swaps=True, from_right=True, from_bottom=True),
    8: _Turn(Image.Transpose.ROTATE_90, swaps=True, from_right=False, from_bottom=True),
}


def swaps_sides(orientation: int) -> bool:
    """Whether the upright image is as wide as the file's is high."""
    return orientation in _TURNS and _TURNS[orientation].swaps


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The size of the upright image."""
    return size[::-1] if swaps_sides(orientation) else size


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The upright image of a file's pixels."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn.operation)


def place_in_file(point: tuple[float, float], size: tuple[int, int], orientation: int) -> tuple[float, float]:
    """Where a point of the upright image, whose size is given, lies among the file's pixels."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return point
    x = size[0] - point[0] if turn.from_right else point[0]
    y = size[1] - point[1] if turn.from_bottom else point[1]
    return (y, x) if turn.swaps else (x, y)

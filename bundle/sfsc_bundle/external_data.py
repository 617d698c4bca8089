"""Whether an ONNX graph keeps weights in other files, which its own digest does not cover."""

from collections.abc import Iterator
from typing import Literal

__all__ = ["has_external_data"]

Message = Literal["model", "graph", "node", "attribute", "function", "sparse tensor", "tensor"]

# Where tensors are: field numbers of onnx.proto with the messages that they hold.
_BELOW: dict[Message, dict[int, Message]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1


def has_external_data(content: bytes) -> bool:
    """Whether any tensor of a serialised graph is stored outside of it.

    Raises:
        ValueError: this is no graph.
    """
    return _external(memoryview(content), "model")


def _external(content: memoryview, kind: Message) -> bool:
    for field, value in _fields(content):
        if kind == "tensor" and (field == _EXTERNAL_DATA or (field, value) == (_DATA_LOCATION, _EXTERNAL)):
            return True
        below = _BELOW[kind].get(field)
        if below is not None and isinstance(value, memoryview) and _external(value, below):
            return True
    return False


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of the fields of a protobuf message; fixed-width numbers are passed over."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        match key & 7:
            case 0:
                value, place = _varint(content, place)
                yield key >> 3, value
            case 1 | 5 as fixed:
                place += 8 if fixed == 1 else 4
            case 2:
                length, place = _varint(content, place)
                if place + length > len(content):
                    raise ValueError("a field of the graph reaches beyond its end")
                yield key >> 3, content[place : place + length]
                place += length
            case other:
                raise ValueError(f"the graph has a field of wire type {other}")


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it."""
    found = 0
    for shift, byte in enumerate(content[place : place + 10]):
        found |= (byte & 127) << 7 * shift
        if byte < 128:
            return found, place + shift + 1
    raise ValueError("a number of the graph has no end")

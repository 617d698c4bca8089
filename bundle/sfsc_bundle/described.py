"""How a message shows the value that it refuses."""

import numpy as np

__all__ = ["describe_value"]

_CHARACTERS = 60
_BITS = 128  # Python refuses to write integers of more than 4,300 digits


def describe_value(value: object) -> str:
    """The value itself where it is short, else its kind and size.

    Containers are counted and never entered: they may be nested without end.

    >>> describe_value({"a": [1, 2]}), describe_value("x" * 100)[:5], describe_value(None), describe_value(0.5)
    ('an object of 1', "'xxxx", 'null', '0.5')
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() | bytes():
            return repr(value[:_CHARACTERS]) + ("…" if len(value) > _CHARACTERS else "")
        case int() if value.bit_length() > _BITS:
            return f"an integer of {value.bit_length()} bits"
        case int() | float():
            return str(value)
        case dict():
            return f"an object of {len(value)}"
        case list():
            return f"a list of {len(value)}"
        case np.ndarray():
            return f"an array of {value.dtype} {list(value.shape)}"
        case _:
            return type(value).__name__

"""Numbers of things in sentences."""

__all__ = ["counted"]


def counted(number: int, one: str) -> str:
    """A number and what it counts, whose plural ends in s.

    >>> counted(1, "item"), counted(402, "item")
    ('1 item', '402 items')
    """
    return f"{number} {one}" if number == 1 else f"{number} {one}s"

"""The turns of late and timely work: while both wait, late work gets a small share of the time."""

__all__ = ["LATE_SHARE", "LateShare"]

LATE_SHARE = 0.1
"""The share of the workers' time that late requests get while there are timely ones."""


class LateShare:
    """Whose turn it is.

    Attributes:
        deficit_ms: by how much late work has had less than its share; above 0 it is its turn.
    """

    def __init__(self) -> None:
        self.deficit_ms = 0.0

    def spend(self, took_ms: float, *, late: bool, most_ms: float) -> None:
        """Count a batch of late or of timely work.

        Args:
            most_ms: bound of the deficit either way, so that hours of one kind give the other no long turn.
        """
        deficit_ms = self.deficit_ms + took_ms * (LATE_SHARE - late)
        self.deficit_ms = min(max(deficit_ms, -most_ms), most_ms)

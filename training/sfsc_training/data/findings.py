"""What is wrong or worth knowing about the images of a data folder, counted and named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfsc_training.errors import DataError

__all__ = ["SKIPPING", "Finding", "refuse_or_leave_out"]

SKIPPING = "train and adopt leave out what cannot be used with --set data.skip_unreadable=true"
"""The words to type; commands on a run that exists read its images as the run did."""

_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of trouble. `what`: in the plural; `names`: of the images or identities, below the data folder.

    `why`: what is wrong with the first of them, where `what` leaves it open.
    """

    what: str
    names: tuple[str, ...]
    why: str = ""

    def __str__(self) -> str:
        """`images that cannot be read: 3, such as 'a/b.jpg' (…) and 'a/c.jpg'`."""
        first, *others = [repr(name) for name in self.names[:_SHOWN]]
        if self.why:
            first += f" ({self.why})"
        such_as = "such as " if len(self.names) > _SHOWN else ""
        return f"{self.what}: {len(self.names)}, {such_as}{' and '.join([first, *others])}"


def refuse_or_leave_out(
    source: Path, found: Sequence[Finding], *, leave_out: bool, advice: str = SKIPPING
) -> tuple[Finding, ...]:
    """What is left out, without the kinds that were not found.

    Args:
        advice: how the command is told to leave it out.

    Raises:
        DataError: something was found, and it is not to be left out.
    """
    troubles = tuple(finding for finding in found if finding.names)
    if troubles and not leave_out:
        raise DataError(f"{source} holds what cannot be used: {'; '.join(map(str, troubles))} ({advice})")
    return troubles

"""Start `sfsc` with one of its shortcuts taken out, to measure what the shortcut saves.

    python benchmarks/without.py SHORTCUT serve BUNDLE …

The product has no switch for them: `REPLACEMENTS` names what is put in the place of what. A name that the service
does not have is an error, so that a renamed shortcut is never measured against itself.
"""

import sys

from sfsc_service.cli.main import main
from sfsc_service.http import fast_path

__all__ = ["NOTHING", "REPLACEMENTS", "take_out"]

NOTHING = "nothing"


REPLACEMENTS: dict[str, list[tuple[object, str, object]]] = {
    NOTHING: [],
    "the fast path": [(fast_path, "FAST_PATHS", ())],
}
"""By shortcut: (module or class, name, what takes its place)."""


def take_out(shortcut: str) -> None:
    """Replace a shortcut for the rest of this process.

    Raises:
        AttributeError: the service has no such name.
    """
    for owner, name, replacement in REPLACEMENTS[shortcut]:
        getattr(owner, name)
        setattr(owner, name, replacement)


if __name__ == "__main__":
    take_out(sys.argv.pop(1))
    main()

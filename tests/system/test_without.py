"""Every shortcut that benchmarks/front_door.py takes out is one that the service has."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROBE = """
from without import REPLACEMENTS, take_out
for shortcut, places in REPLACEMENTS.items():
    take_out(shortcut)
    assert all(getattr(owner, name) is new for owner, name, new in places), shortcut
"""


def test_every_shortcut_is_there_and_is_replaced():
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""Kills, failing disks and flipped bits, many more than in the tests; run it again to go on where it was stopped.

    python benchmarks/crash.py [--kills 1000] [--faults 500] [--flips 500]

The rounds are those of test_crash, test_faults and test_flips in tests/service/store/embedded, each with a seed of
its own; `.crash/progress.json` holds the outcome of every seed.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from result_file import Figure, write_result
from sfsc_bundle.atomic_file import write_file

ROOT = Path(__file__).parents[1]
PROGRESS = ROOT / ".crash" / "progress.json"
KILLS_PER_SEED = 10

sys.path.insert(0, str(ROOT))
from tests.service.store.embedded import test_crash, test_faults, test_flips  # noqa: E402

Round = Callable[[Path, int], str]


def kill_round(folder: Path, seed: int) -> str:
    """KILLS_PER_SEED kills of processes that go on with one folder."""
    test_crash.run_rounds(folder, seed, KILLS_PER_SEED)
    return "kept"


def fault_round(folder: Path, seed: int) -> str:
    """One history with a failing disk."""
    return "kept" if test_faults.run_round(folder / "store", seed) else "no call failed"


def flip_round(folder: Path, seed: int) -> str:
    """One flipped bit."""
    oracle = test_flips.make_folder(folder / "whole")
    return test_flips.run_round(folder / "whole", oracle, folder / "flipped", seed)


def read_progress() -> dict[str, dict[str, str]]:
    """Outcomes by kind and seed."""
    found: dict[str, dict[str, str]] = json.loads(PROGRESS.read_bytes()) if PROGRESS.exists() else {}
    return found


def carry_out(kind: str, run: Round, rounds: int, progress: dict[str, dict[str, str]]) -> Counter[str]:
    """The rounds that have no outcome yet, each stored at once; how often there was which outcome."""
    outcomes = progress.setdefault(kind, {})
    for seed in map(str, range(rounds)):
        if seed not in outcomes:
            folder = Path(tempfile.mkdtemp())
            try:
                outcomes[seed] = run(folder, int(seed))
            except AssertionError as error:
                outcomes[seed] = f"FAILED: {error}"[:300]
            shutil.rmtree(folder, ignore_errors=True)
            PROGRESS.parent.mkdir(exist_ok=True)
            write_file(PROGRESS, json.dumps(progress).encode())
            print(f"{kind} {seed}: {outcomes[seed]}", flush=True)
    return Counter(
        "FAILED" if outcomes[str(seed)].startswith("FAILED") else outcomes[str(seed)] for seed in range(rounds)
    )


def main() -> None:
    """Run what has not been run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--flips", type=int, default=500)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    progress = read_progress()
    kills = carry_out("kills", kill_round, options.kills // KILLS_PER_SEED, progress)
    faults = carry_out("faults", fault_round, options.faults, progress)
    flips = carry_out("flips", flip_round, options.flips, progress)
    figures = [
        Figure("kills", KILLS_PER_SEED * kills.total(), "", ">= 1000"),
        Figure("kills after which something was lost or half there", kills["FAILED"], "", "<= 0"),
        Figure("histories with a failing disk", faults.total() - faults["no call failed"], "", ">= 500"),
        Figure("of which lost something that was acknowledged", faults["FAILED"], "", "<= 0"),
        Figure("flipped bits", flips.total(), "", ">= 500"),
        Figure("of which were not noticed and did harm", flips["FAILED"], "", "<= 0"),
    ]
    for figure in figures:
        print(f"{figure.name}: {figure.value:g} {figure.goal} {figure.met}")
    write_result("crash", figures, {"kills": kills, "faults": faults, "flips": flips}, seed=0)


if __name__ == "__main__":
    main()

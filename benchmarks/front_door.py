"""What each shortcut of the front door saves: the service as it is beside the service without it.

    python benchmarks/front_door.py            # a quarter of an hour; an untrained ResNet-18 at 128 px, width 0.25
    python benchmarks/front_door.py --quick    # one short round, writes nothing

The shortcuts are those of without.py; a shortcut that saves 3 % of the CPU per request or less is not worth its
code. (The result in benchmarks/results is of a commit that had two more, which went for that reason: metric series
that were looked up once and kept, and the head of a response joined with its body in one write.)
16 keep-alive clients of wrk, single images, the services in turn (paired.py). Saved: 1 − with ÷ without.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from bodies import draw
from checkout import ROOT, Checkout
from paired import LEAST_ROUNDS, Costs, Side, interval, ratios, take_turns
from result_file import Figure, write_result
from untrained import untrained_bundle
from without import NOTHING, REPLACEMENTS

WIDTH = "0.25"
GOAL = "> 3"
LAUNCHER = Path(__file__).with_name("without.py")


def main() -> None:
    """Measure and write benchmarks/results/front_door.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "runs/untrained-resnet18")
    parser.add_argument("--pairs", type=int, default=12, help=f"for each shortcut; at least {LEAST_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    arguments = parser.parse_args()
    if arguments.pairs < LEAST_ROUNDS:
        parser.error(f"--pairs: must be at least {LEAST_ROUNDS}, found {arguments.pairs}")
    pairs, seconds = (1, 2) if arguments.quick else (arguments.pairs, 6)
    this = Checkout()
    python = this.command("sfsc")[0]
    sides = {name: Side([python, LAUNCHER, name], {"PYTHONPATH": this.python_path}) for name in REPLACEMENTS}
    bundle = untrained_bundle(arguments.bundle).folder
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sent = draw(work)["single"]
        costs = take_turns(sides, bundle, sent, work, widths=[WIDTH], rounds=pairs, seconds=seconds)
    figures = figures_of(costs)
    for figure in figures:
        print(f"{figure.name:60} {figure.value:8.3f} {figure.unit:4} {figure.interval or ''} {figure.goal or ''}")
    if not arguments.quick:
        print(write_result("front_door", figures, {"pairs": pairs, "seconds": seconds, "cpu_ms": costs}, seed=0))


def figures_of(costs: Costs) -> list[Figure]:
    """The share that each shortcut saves, and what a request costs with all of them."""
    found = costs[WIDTH]
    figures = []
    for name in REPLACEMENTS:
        if name != NOTHING:
            saved = [100 * (1 - ratio) for ratio in ratios(found[NOTHING], found[name])]
            figures.append(Figure(f"CPU per request saved by {name}", median(saved), "%", GOAL, interval(saved)))
    return [*figures, Figure("CPU per request, all of them", median(found[NOTHING]), "ms")]


if __name__ == "__main__":
    main()

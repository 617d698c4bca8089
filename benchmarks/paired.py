"""Services that differ in one thing under the same load in turn: CPU per request, and ratios with intervals.

Every round starts all services anew, so that an interval holds what differs from one process to the next; within
a round the services take turns at each width, in another order each time, so that a slow spell hits all alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
from rich.progress import track
from scipy.stats import quantile_test

from bodies import Bodies
from live_service import launched, profiled
from load import post
from process_cost import cpu_ms

__all__ = ["LEAST_ROUNDS", "Costs", "Side", "interval", "ratios", "take_turns"]

LEAST_ROUNDS = 10
CONFIDENCE = 0.95
SETTINGS = {"SFSC_LOG_LEVEL": "warning", "SFSC_QUEUE_MS": "60000"}
"""A refusal would cost less than an answer, so nothing is refused however slow the machine is meanwhile."""

Costs = Mapping[str, Mapping[str, Sequence[float]]]
"""CPU milliseconds per request by width and side, one for each round."""


@dataclass(frozen=True, slots=True)
class Side:
    """How one of the services starts: the words before its command, and variables of its environment."""

    command: Sequence[object]
    environment: Mapping[str, str] = field(default_factory=dict)


def take_turns(
    sides: Mapping[str, Side],
    bundle: Path,
    sent: Bodies,
    work: Path,
    *,
    widths: Sequence[str],
    rounds: int,
    seconds: int,
) -> Costs:
    """Load every side at every width in each round."""
    found: dict[str, dict[str, list[float]]] = {width: {name: [] for name in sides} for width in widths}
    settings = {name: SETTINGS | dict(side.environment) for name, side in sides.items()}
    folders = {name: profiled(bundle, work, side.command, **settings[name]) for name, side in sides.items()}
    for number in track(range(rounds), "rounds"):
        with ExitStack() as stack:
            running = {
                name: stack.enter_context(
                    launched(bundle, work, side.command, SFSC_DATA=folders[name], **settings[name])
                )
                for name, side in sides.items()
            }
            for width in widths:
                for name in _order(list(sides), number):
                    found[width][name].append(_cost_ms(*running[name], width, sent, seconds))
    return found


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours ÷ theirs, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the median lies with a confidence of 95 %, by order statistics; None of fewer than six values."""
    found = quantile_test(values, q=median(values), p=0.5).confidence_interval(CONFIDENCE)
    return (float(found.low), float(found.high)) if found.low == found.low else None


def _order(names: list[str], number: int) -> Iterator[str]:
    start = number % len(names)
    turned = names[start:] + names[:start]
    return iter(turned) if number // len(names) % 2 == 0 else reversed(turned)


def _cost_ms(client: httpx.Client, pid: int, width: str, sent: Bodies, seconds: int) -> float:
    url = str(client.base_url.join(f"/embed?width={width}"))
    post(url, sent.paths, 1, kind=sent.kind)  # warm caches and allocators
    began = cpu_ms(pid)
    load = post(url, sent.paths, seconds, kind=sent.kind)
    return (cpu_ms(pid) - began) / load.requests

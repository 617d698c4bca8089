"""The options of the command that say what each network is, read into `Wanted`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sfsc_bundle.widths import canonical_width
from sfsc_training.adopt.input_format import parse_layout, parse_order, parse_size
from sfsc_training.adopt.source import Origin, Wanted
from sfsc_training.errors import AdoptionError

__all__ = ["NetworkOptions", "read_option", "wanted_networks"]

Read = TypeVar("Read")

_TIMM = "timm:"


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """As they were typed. One value is said of every network; else there is one for each, in their order."""

    model: Sequence[str]
    weights: Sequence[str]
    width: Sequence[str]
    layout: Sequence[str]
    channels: Sequence[str]
    size: Sequence[str]
    mean: Sequence[str]
    std: Sequence[str]
    licence: Sequence[str]


def wanted_networks(options: NetworkOptions, *, joins: bool) -> list[Wanted]:
    """What each network is to become.

    Args:
        joins: the networks join a bundle; else one alone becomes width 1.0 without being told.

    Raises:
        AdoptionError: there is no network, an option is given another number of times than once or once for each
            network, or a value cannot be read.
    """
    names = _names(options)
    default = ["1.0"] if len(names) == 1 and not joins else []
    widths = options.width or default
    if len(widths) != len(names):
        raise AdoptionError(f"--as must be given once for each of {len(names)} networks, found {len(widths)}")

    def read(number: int) -> Wanted:
        def own(option: str, given: Sequence[str], parse: Callable[[str], Read]) -> Read | None:
            text = _own(option, given, number, len(names))
            return None if text is None else read_option(option, text, parse)

        return Wanted(
            read_option("--as", widths[number], canonical_width),
            *names[number],
            own("--layout", options.layout, parse_layout),
            own("--channels", options.channels, parse_order),
            own("--size", options.size, parse_size),
            own("--mean", options.mean, _colours),
            own("--std", options.std, _colours),
            own("--licence", options.licence, str),
        )

    return [read(number) for number in range(len(names))]


def read_option(option: str, text: str, parse: Callable[[str], Read]) -> Read:
    """The value of an option. Raises AdoptionError."""
    try:
        return parse(text)
    except ValueError as error:
        raise AdoptionError(f"{option} {text!r} cannot be read: {error}") from error


def _names(options: NetworkOptions) -> list[tuple[Origin, str]]:
    if bool(options.model) == bool(options.weights):
        found = "both" if options.model else "neither"
        raise AdoptionError(f"the networks must be given either by --model or by --weights, found {found}")
    if options.weights:
        return [("weights", name) for name in options.weights]
    return [
        ("timm", name.removeprefix(_TIMM)) if name.startswith(_TIMM) else ("file", name) for name in options.model
    ]


def _own(option: str, given: Sequence[str], number: int, count: int) -> str | None:
    if len(given) not in (0, 1, count):
        raise AdoptionError(
            f"{option} must be given once, for every network, or once for each of {count}, found {len(given)}"
        )
    return given[number % len(given)] if given else None


def _colours(text: str) -> tuple[float, ...]:
    found = tuple(float(part) for part in text.split(","))
    if len(found) != 3:
        raise ValueError(f"it must have 3 numbers, red, green and blue, found {len(found)}")
    return found
